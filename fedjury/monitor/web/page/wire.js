"use strict";

/* The connection: MQTT over websockets, straight to the broker. */

const Wire = (() => {
  const TOPIC = /^([A-Za-z0-9_-]{1,64})\/(manifest|round|log\/(?:round|invalid|history)|agent\/[A-Za-z0-9_-]{1,64})$/; // below the root
  const ROOT = "fl/v2";
  const LONGEST = 4_000_000; // bytes of a message that we read
  const REFUSED = new Set([4, 5, 134, 135]); // what a broker answers to a wrong login, or none
  const ALL = ["+/manifest", "+/round"];
  const PAST = "log/history";
  const OFTEN = 3, MINUTE = 60_000; // cut off so often within a minute: that is no broker that goes
  const STEADY = 15_000; // milliseconds after which a connection is believed again

  const AS_FILE = "This page was opened as a file, so it does not know the broker's address. Let a broker serve it: " +
    "fedjury broker --port 1883 --page. Or add the address of one that speaks websockets: ?broker=ws://HOST:PORT";

  /** Where the broker speaks websockets: ?broker=ws://..., else the server of this page.

  Returns { url, wrong }; `wrong` says in a sentence why there is none. */
  function address(location) {
    const said = new URLSearchParams(location.search).get("broker"), secure = location.protocol === "https:";
    const no = (wrong) => ({ url: "", wrong });
    if (!said && !location.host) return no(AS_FILE);
    const url = !said ? `${secure ? "wss" : "ws"}://${location.host}/mqtt` : said.includes("://") ? said : `ws://${said}`;
    if (!isWebsocket(url)) return no(`${said} is not the address of a broker: it must be like ws://HOST:PORT, where the broker speaks websockets.`);
    if (secure && url.startsWith("ws:")) return no(`A page from https:// may only use wss://, not ${url}.`);
    return { url, wrong: "" };
  }

  function isWebsocket(text) {
    try {
      const { protocol, hash } = new URL(text);
      return /^wss?:$/.test(protocol) && !hash && !/\s/.test(text);
    } catch {
      return false;
    }
  }

  /** Below which topic the runs are: ?root=..., as programs are told it with --root, else ours. */
  const rootOf = (location) => new URLSearchParams(location.search).get("root") || ROOT;

  /** What one run says. */
  const topicsOf = (run) => ["log/round", "log/invalid", PAST, "agent/+"].map((rest) => `${run}/${rest}`);

  /** Whether a run can be called so. */
  const isName = (text) => /^[A-Za-z0-9_-]{1,64}$/.test(text);

  /** Connect. `on.message(run, topic, data, live)`, `on.state("live" | "gone" | "refused" | "cut")`. */
  function connect(url, login, on, root = ROOT) {
    const below = (topics) => topics.map((topic) => `${root}/${topic}`);
    const client = mqtt.connect(url, {
      protocolVersion: 4, clean: true, resubscribe: false, reconnectPeriod: 1000,
      connectTimeout: 5000, keepalive: 30, clientId: `page-${crypto.getRandomValues(new Uint32Array(2)).join("")}`,
      ...(login ?? {}),
    });
    let run = null, open = false, refused = false, steady = 0;
    let cuts = []; // when we were cut off
    const often = () => {
      cuts = cuts.filter((when) => Date.now() - when < MINUTE);
      return cuts.length >= OFTEN;
    };
    let past = false; // whether we listen to the rounds in short, which are long
    const listen = () => {
      past = true;
      client.subscribe(below(topicsOf(run)), { qos: 1 });
    };
    client.on("connect", () => {
      open = true;
      client.subscribe(below(ALL), { qos: 1 });
      if (run !== null) listen();
      on.state(often() ? "cut" : "live");
      if (often()) steady = setTimeout(() => on.state("live"), STEADY);
    });
    client.on("close", () => {
      clearTimeout(steady);
      if (open) cuts.push(Date.now());
      open = false;
      if (!refused) on.state(often() ? "cut" : "gone");
    });
    client.on("error", (problem) => {
      if (!REFUSED.has(problem.code)) return; // it is gone: "close" says so
      refused = true;
      client.end(true);
      on.state("refused");
    });
    client.on("message", (topic, payload, packet) => {
      const found = topic.startsWith(`${root}/`) ? TOPIC.exec(topic.slice(root.length + 1)) : null;
      if (found === null || payload.length > LONGEST) return;
      const data = parsed(payload);
      if (data === undefined) return;
      // The one that was retained may lack the very last rounds; the next has all until we listened.
      if (found[2] === PAST && found[1] === run && !packet.retain) {
        past = false;
        client.unsubscribe(topic);
      }
      on.message(found[1], found[2], data, !packet.retain);
    });
    return {
      /** Listen to all that this run says, and no longer to another. */
      watch(name) {
        if (name === run) return;
        if (run !== null && open) client.unsubscribe(below(topicsOf(run)));
        run = name;
        if (open) listen();
      },
      /** Ask for the rounds in short once more. */
      recall() {
        if (!open || past) return;
        past = true;
        client.subscribe(below([`${run}/${PAST}`]), { qos: 1 });
      },
    };
  }

  /** What a payload says: null for an empty one, undefined for what is no JSON. */
  function parsed(payload) {
    if (payload.length === 0) return null;
    try {
      return JSON.parse(new TextDecoder().decode(payload));
    } catch {
      return undefined;
    }
  }

  return { address, rootOf, isName, connect };
})();
