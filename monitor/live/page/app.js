"use strict";

/* The page: what arrives changes the board, and a few times a second the board is drawn. */

const fedjury = (() => {
  const EVERY = 250; // milliseconds between two drawings
  const RUNS = 200;
  const PHASES = {
    train: "collecting updates", validate: "validators are voting",
    judge_and_train: "judging and training", done: "the run is over",
  };
  const $ = (id) => document.getElementById(id);
  const url = Wire.address(location);
  const runs = new Map(); // name -> board
  let spoke = null; // the run that said something last, what was retained apart
  let wire = null, picked = new URLSearchParams(location.hash.slice(1)).get("run") ?? "";
  let shown = null, state = "connecting", since = Date.now(), heard = null, dirty = true;
  let charts, votes, map;

  // ------------------------------------------------------------ what arrives

  function onMessage(run, topic, data, live) {
    if (!runs.has(run) && runs.size >= RUNS) return;
    if (!runs.has(run)) runs.set(run, Board.fresh(run));
    Board.hear(runs.get(run), topic, data);
    heard = Date.now();
    if (live && (topic === "round" || topic === "log/round")) spoke = run;
    dirty = true;
    choose();
  }

  function onState(next) {
    if (next !== state && !(state === "cut" && next === "gone")) since = Date.now();
    state = next;
    dirty = true;
    if (next === "refused") wire = null;
    $("login").hidden = next !== "refused";
    if (next === "refused" && login) $("login").querySelector("p").classList.add("wrong");
  }

  /** The run to show: the one that was picked, else the one that spoke last, else one at work. */
  function latest() {
    if (picked) return picked;
    if (spoke !== null) return spoke;
    if (shown !== null && runs.get(shown)?.round?.phase !== "done") return shown;
    const atWork = [...runs.values()].filter((board) => board.round && board.round.phase !== "done");
    return (atWork.at(-1) ?? [...runs.values()].at(-1))?.name ?? null;
  }

  function choose() {
    const name = latest();
    if (name === null || name === shown) return;
    shown = name;
    if (!runs.has(name)) runs.set(name, Board.fresh(name));
    wire?.watch(name);
    dirty = true;
  }

  // ------------------------------------------------------------ what is drawn

  function draw() {
    if (!dirty || document.hidden) return;
    dirty = false;
    drawLink();
    drawRuns();
    const board = runs.get(shown);
    if (!board) return;
    drawFigures(board);
    charts.forEach((chart) => chart.draw(board.rows));
    votes.draw(board.rows);
    map.draw(board);
    Agents.table($("suspects"), board);
    drawRefused(board);
  }

  function drawLink() {
    const words = { live: "live", connecting: "connecting", gone: "broker gone", cut: "cut off", refused: "log-in needed" };
    $("link").textContent = words[state];
    $("link").className = `pill ${state}`;
    const clock = new Date(since).toLocaleTimeString();
    const text = {
      gone: heard === null ? `No broker answers at ${url}. Trying again every second.`
        : `The broker at ${url} is gone since ${clock}. What is below is what it said until then; trying again every second.`,
      cut: `The broker at ${url} cuts us off again and again: is somebody else watching under the same log-in? python -m broker.enrol --watch NAME makes another.`,
    }[state];
    $("banner").hidden = text === undefined;
    if (text !== undefined && $("banner").textContent !== text) $("banner").textContent = text;
  }

  function drawRuns() {
    const names = [...new Set([...runs.keys(), ...(picked ? [picked] : [])])].sort();
    const texts = names.map((name) => {
      const round = runs.get(name)?.round;
      return [name, round ? `${name}: ${round.phase === "done" ? "over" : `round ${round.round}`}` : name];
    });
    const first = picked || shown === null ? "the latest" : `the latest (${shown})`;
    const wanted = [["", first], ...texts];
    const select = $("run");
    if (wanted.length !== select.options.length) select.replaceChildren(...wanted.map(() => new Option()));
    wanted.forEach(([value, text], i) => {
      const option = select.options[i];
      if (option.value !== value || option.text !== text) Object.assign(option, { value, text });
    });
    if (select.value !== picked) select.value = picked;
  }

  function drawFigures(board) {
    const { last, accepted, rejected, online, agents } = Board.figures(board);
    const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
    const now = board.round, bytes = (value) => (value === null ? "–" : `${Charts.short(value)}B`);
    set("now", `${board.name}: ${now ? `${now.phase === "done" ? "" : `round ${now.round}, `}${PHASES[now.phase] ?? "waiting"}` : "waiting for the first round"}${board.note ? `; ${board.note}` : ""}`);
    set("f-round", last ? String(last.round) : "–");
    set("f-accuracy", Charts.percent(last?.accuracy ?? null));
    $("c-backdoor").hidden = last?.backdoor == null;
    set("f-backdoor", Charts.percent(last?.backdoor ?? null));
    set("f-accepted", String(accepted));
    set("f-rejected", String(rejected));
    set("f-online", agents ? `${online.toLocaleString("en")} of ${agents.toLocaleString("en")}` : "–");
    set("f-rate", last?.rate == null ? "–" : Math.round(last.rate).toLocaleString("en"));
    set("f-bytes", last ? `${bytes(last.bytesIn)}, ${bytes(last.bytesOut)}` : "–");
    const m = board.manifest;
    set("about", m ? `${m.model}, ${(m.parameters ?? 0).toLocaleString("en")} parameters; updates as ${m.codec}; judge ${m.judge}` : "");
    document.title = last ? `${Charts.percent(last.accuracy)} #${last.round} ${board.name}` : "fedjury";
    const text = last ? `Accuracy by round; after round ${last.round} it is ${Charts.percent(last.accuracy)}, ${rejected} rounds were rejected` : "Accuracy by round";
    $("chart-accuracy").setAttribute("aria-label", text);
  }

  function drawRefused(board) {
    const total = Board.refusals(board), now = board.refused.now;
    $("refused-none").hidden = total.size > 0;
    $("refused").hidden = total.size === 0;
    const rows = [...total].sort(([, x], [, y]) => y - x).map(([reason, value]) => {
      const row = document.createElement("tr");
      for (const cell of [reason, value.toLocaleString("en"), String(now.get(reason) ?? 0)]) row.insertCell().textContent = cell;
      return row;
    });
    $("refused").tBodies[0].replaceChildren(...rows);
    $("refused-latest").textContent = board.refused.latest ? `The latest: ${board.refused.latest}` : "";
  }

  // ------------------------------------------------------------ what people do

  let login = null;

  function open() {
    state = "connecting";
    since = Date.now();
    wire = Wire.connect(url, login, { message: onMessage, state: onState });
    if (shown !== null) wire.watch(shown);
  }

  const THEMES = ["auto", "light", "dark"];

  function setTheme(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").textContent = `theme: ${theme}`;
    charts?.forEach((chart) => chart.paint());
    dirty = true;
  }

  function nextTheme() {
    const now = document.documentElement.dataset.theme ?? "auto";
    setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  }

  function pick(name) {
    picked = name;
    history.replaceState(null, "", name ? `#run=${encodeURIComponent(name)}` : location.pathname + location.search);
    choose();
    dirty = true;
  }

  function start() {
    charts = [Charts.accuracy($("chart-accuracy")), Charts.network($("chart-network"))];
    $("chart-accuracy").setAttribute("role", "img");
    const tip = $("tip");
    votes = new Votes.List({ list: $("rows"), line: $("vote-said"), tip, older: $("older"), only: $("only-rejected") });
    map = new Agents.Map({ canvas: $("map"), line: $("agent-said"), tip });
    $("theme").addEventListener("click", nextTheme);
    $("run").addEventListener("change", (event) => pick(event.target.value));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(document.documentElement.dataset.theme ?? "auto"));
    document.addEventListener("visibilitychange", () => { dirty = true; });
    $("login").addEventListener("submit", (event) => {
      event.preventDefault();
      login = { username: $("user").value, password: $("password").value };
      $("login").hidden = true;
      open();
    });
    if (url) open();
    else {
      $("banner").textContent = "Open this page from a server, or say where the broker is: ?broker=ws://HOST:PORT";
      $("banner").hidden = false;
    }
    setInterval(draw, EVERY);
  }

  start();
  return { runs, get shown() { return runs.get(shown); }, get charts() { return charts; } };
})();
