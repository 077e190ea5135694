"use strict";

/* What the page says in words and numbers: the link, the runs, the figures, what was refused. */

const Words = (() => {
  const PHASES = new Map([
    ["train", "collecting updates"], ["validate", "validators are voting"],
    ["validate_groups", "validators are voting on groups"],
    ["judge_and_train", "judging and training"], ["done", "the run is over"],
  ]);
  const LINK = {
    live: "live", connecting: "connecting", gone: "broker gone", cut: "disconnected", refused: "login needed", none: "no broker",
  };
  const NO_RUN = "No run on this broker yet. Start one with: python run.py --broker HOST:1883 --n 100 " +
    "(HOST is the broker's address, 1883 its MQTT port).";
  const $ = (id) => document.getElementById(id);
  const grouped = new Intl.NumberFormat("en");

  /** Say something, if it is not what is there: whoever listens or selects text is left in peace. */
  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  /** The connection: { state, since, heard, url, wrong }. */
  function link({ state, since, heard, url, wrong }) {
    put($("link"), LINK[state]);
    $("link").className = `pill ${state}`;
    const clock = new Date(since).toLocaleTimeString();
    const text = {
      none: wrong,
      gone: heard ? `The broker at ${url} has been unreachable since ${clock}. Below is the state until then; trying again every second.`
        : `No broker answers at ${url}; trying again every second. If it is running, check that it speaks websockets at this port.`,
      cut: `The broker at ${url} keeps disconnecting this page. Is somebody else using the same login? Make another one with fedjury enroll --watch NAME.`,
    }[state];
    $("banner").hidden = text === undefined;
    put($("banner"), text ?? "");
  }

  /** The runs to pick from; `picked` is empty where nobody has picked one. */
  function runs(boards, picked, shown) {
    const names = [...new Set([...boards.keys(), ...(picked ? [picked] : [])])].sort();
    const first = picked || shown === null ? "the latest" : `the latest (${shown})`;
    const wanted = [["", first], ...names.map((name) => [name, boards.has(name) && Board.over(boards.get(name)) ? `${name} (over)` : name])];
    const select = $("run");
    if (wanted.length !== select.options.length) select.replaceChildren(...wanted.map(() => new Option()));
    wanted.forEach(([value, text], i) => {
      const option = select.options[i];
      if (option.value !== value || option.text !== text) Object.assign(option, { value, text });
    });
    if (select.value !== picked) select.value = picked;
  }

  /** Where the run stands. */
  function now({ name, manifest, round, rows, note, removed }) {
    let said = `waiting for the ${rows.length ? "next" : "first"} round`;
    if (removed) said = "the run was removed from the broker";
    else if (round) said = PHASES.get(round.phase) ?? "waiting";
    else if (!manifest && !rows.length) said = "no messages of this run yet";
    if (round && !removed && round.phase !== "done") {
      const again = round.attempt > 1 ? `, attempt ${round.attempt}` : "";
      const selected = round.selected === null ? "" : `; ${grouped.format(round.selected)} agents are selected`;
      said = `round ${round.round}${again}, ${said}${selected}`;
    }
    return `${name}: ${said}${note ? `; ${note}` : ""}`;
  }

  /** Tell those who cannot see it, once, which run it is and that it is over; rounds are too many. */
  function news(board) {
    put($("news"), Board.over(board) ? now(board) : `showing the run ${board.name}`);
  }

  function figures(board, { last, first, accepted, rejected, online, agents, groups }) {
    const set = (id, text) => put($(id), text);
    const bytes = (value) => (value === null ? "–" : `${Charts.short(value)}B`);
    set("now", now(board));
    set("f-round", last ? String(last.round) : "–");
    set("f-accuracy", Charts.percent(last?.accuracy));
    const metrics = [...(last?.metrics ?? [])];
    $("c-accuracy").hidden = metrics.length > 0 && last.accuracy === null;
    tiles(metrics);
    $("c-backdoor").hidden = last?.backdoor == null;
    set("f-backdoor", Charts.percent(last?.backdoor));
    $("c-largest").hidden = last?.largest == null;
    set("f-largest", Charts.percent(last?.largest));
    $("c-lost").hidden = last?.largest == null || last.lost === null;
    set("f-lost", last?.lost == null ? "–" : (100 * last.lost).toFixed(1));
    for (const id of ["c-groups", "legend-groups"]) $(id).hidden = !groups.all;
    set("f-groups", `${grouped.format(groups.out)} of ${grouped.format(groups.all)}`);
    const cost = last?.groups ? Groups.cost(last.groups) : "";
    $("c-judging").hidden = !cost;
    set("f-judging", cost);
    $("c-epsilon").hidden = last?.epsilon == null;
    const delta = last?.delta == null ? "" : ` (δ ${last.delta})`;
    set("f-epsilon", last?.epsilon == null ? "–" : `${Charts.short(last.epsilon)}${delta}`);
    set("f-accepted", grouped.format(accepted));
    set("f-rejected", grouped.format(rejected));
    for (const since of document.querySelectorAll(".since")) put(since, first > 1 ? ` since round ${first}` : "");
    const many = agents >= Board.LIMITS.agents ? " or more" : "";
    set("f-online", agents ? `${grouped.format(online)} of ${grouped.format(agents)}${many}` : "–");
    set("f-rate", last?.rate == null ? "–" : grouped.format(Math.round(last.rate)));
    set("f-bytes", last ? `${bytes(last.bytesIn)}, ${bytes(last.bytesOut)}` : "–");
    const m = board.manifest;
    set("about", m ? `${m.model}, ${grouped.format(m.parameters ?? 0)} parameters; updates as ${m.codec}; judge ${m.judge}` : "");
    const [best] = last?.accuracy == null ? metrics : [];
    const reached = best ? `${best[0]} ${Charts.measure(...best)}` : Charts.percent(last?.accuracy);
    document.title = last ? `${reached} #${last.round} ${board.name}` : "fedjury";
  }

  /** A tile for each metric, after that of accuracy. */
  function tiles(metrics) {
    const old = [...document.querySelectorAll("#figures .metric")];
    metrics.forEach(([name, value], i) => {
      const tile = old[i] ?? document.createElement("div");
      if (!old[i]) {
        tile.className = "metric";
        tile.append(document.createElement("dt"), document.createElement("dd"));
        $("c-backdoor").before(tile);
      }
      put(tile.firstElementChild, name);
      put(tile.lastElementChild, Charts.measure(name, value));
    });
    old.slice(metrics.length).forEach((tile) => tile.remove());
  }

  function refused(board) {
    const total = Board.refusals(board), { now: recent, latest } = board.refused;
    $("refused-none").hidden = total.size > 0;
    $("refused").hidden = total.size === 0;
    const rows = [...total].sort(([, x], [, y]) => y - x).map(([reason, value]) => {
      const row = document.createElement("tr");
      for (const cell of [reason, grouped.format(value), grouped.format(recent.get(reason) ?? 0)]) row.insertCell().textContent = cell;
      return row;
    });
    $("refused").tBodies[0].replaceChildren(...rows);
    put($("refused-latest"), latest ? `The latest: ${latest}` : "");
  }

  return { NO_RUN, link, runs, now, news, figures, refused, put };
})();
