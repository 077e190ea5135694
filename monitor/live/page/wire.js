"use strict";

/* The connection: MQTT over websockets, straight to the broker. */

const Wire = (() => {
  const TOPIC = /^fl\/v1\/([A-Za-z0-9_-]{1,64})\/(manifest|round|log\/(?:round|refused|past)|agent\/[A-Za-z0-9_-]{1,64})$/;
  const LONGEST = 4_000_000; // bytes of a message that we read
  const REFUSED = new Set([4, 5, 134, 135]); // what a broker answers to a wrong log-in, or none
  const ALL = ["fl/v1/+/manifest", "fl/v1/+/round"];
  const OFTEN = 3, SOON = 5000; // cut off so many times, each within so many milliseconds

  /** Where the broker speaks websockets: ?broker=ws://..., else the server of this page. */
  function address(location) {
    const said = new URLSearchParams(location.search).get("broker");
    if (said) return /^wss?:\/\//.test(said) ? said : `ws://${said}`;
    if (!location.host) return "";
    return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/mqtt`;
  }

  /** What one run says. */
  const topicsOf = (run) => ["log/round", "log/refused", "log/past", "agent/+"].map((rest) => `fl/v1/${run}/${rest}`);

  /** Connect. `on.message(run, topic, data, live)`, `on.state("live" | "gone" | "refused" | "cut")`. */
  function connect(url, login, on) {
    const client = mqtt.connect(url, {
      protocolVersion: 4, clean: true, resubscribe: false, reconnectPeriod: 1000,
      connectTimeout: 5000, keepalive: 30, clientId: `page-${crypto.getRandomValues(new Uint32Array(2)).join("")}`,
      ...(login ?? {}),
    });
    let run = null, since = 0, cuts = 0, open = false, refused = false;
    client.on("connect", () => {
      open = true;
      since = Date.now();
      client.subscribe(ALL, { qos: 1 });
      if (run !== null) client.subscribe(topicsOf(run), { qos: 1 });
      on.state("live");
    });
    client.on("close", () => {
      if (open) cuts = Date.now() - since < SOON ? cuts + 1 : 0;
      open = false;
      if (!refused) on.state(cuts >= OFTEN ? "cut" : "gone");
    });
    client.on("error", (problem) => {
      if (!REFUSED.has(problem.code)) return; // it is gone: "close" says so
      refused = true;
      client.end(true);
      on.state("refused");
    });
    client.on("message", (topic, payload, packet) => {
      const found = TOPIC.exec(topic);
      if (found === null || payload.length > LONGEST) return;
      const data = parsed(payload);
      if (data === undefined) return;
      // The one that was retained may lack the very last rounds; the next has all until we listened.
      if (found[2] === "log/past" && !packet.retain) client.unsubscribe(topic);
      on.message(found[1], found[2], data, !packet.retain);
    });
    return {
      /** Listen to all that this run says, and no longer to another. */
      watch(name) {
        if (name === run) return;
        if (run !== null && open) client.unsubscribe(topicsOf(run));
        run = name;
        if (open) client.subscribe(topicsOf(run), { qos: 1 });
      },
      end: () => client.end(true),
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

  return { address, connect };
})();
