"use strict";

/* The page: what arrives changes a board, and a few times a second the one shown is drawn. */

const fedjury = (() => {
  const EVERY = 250; // milliseconds between two drawings
  const $ = (id) => document.getElementById(id);
  const { url, wrong } = Wire.address(location);
  const runs = new Runs();
  const link = { state: url ? "connecting" : "none", since: Date.now(), heard: false, url, wrong };
  let wire = null, login = null, dirty = true;
  let charts, votes, map;

  // ------------------------------------------------------------ what arrives

  function onMessage(name, topic, data, live) {
    const missing = runs.hear(name, topic, data, live, Date.now());
    if (missing && name === runs.shown) wire.recall();
    link.heard = dirty = true;
    if (!topic.startsWith("agent/")) choose();
  }

  function onState(next) {
    if (next !== link.state && !(link.state === "cut" && next === "gone")) link.since = Date.now();
    link.state = next;
    dirty = true;
    if (next === "live" || next === "cut") runs.board?.agents.clear(); // a broker that was restarted may not know all of them
    $("login").hidden = next !== "refused";
    $("wrong").hidden = login === null;
    if (next === "refused") $(login ? "password" : "user").focus();
  }

  function choose() {
    const name = runs.choose(Date.now());
    if (name === null || name === runs.shown) return;
    runs.show(name);
    wire?.watch(name);
    dirty = true;
  }

  // ------------------------------------------------------------ what is drawn

  function draw() {
    if (!dirty || document.hidden) return;
    dirty = false;
    Words.link(link);
    Words.runs(runs.boards, runs.picked, runs.shown);
    const { board } = runs;
    if (!board) return Words.put($("now"), link.state === "live" ? Words.NO_RUN : "No messages yet.");
    const figures = Board.figures(board);
    Words.figures(board, figures);
    Words.news(board);
    Words.refused(board);
    charts.forEach((chart) => chart.draw(board.rows));
    votes.draw(board.rows, board.name);
    map.draw(board);
    Agents.table($("suspects"), board, figures.quarantined);
    Groups.table($("left-out"), board);
  }

  // ------------------------------------------------------------ what people do

  function open() {
    Object.assign(link, { state: "connecting", since: Date.now() });
    wire = Wire.connect(url, login, { message: onMessage, state: onState }, Wire.rootOf(location));
    if (runs.shown !== null) wire.watch(runs.shown);
  }

  function onLogin(event) {
    event.preventDefault();
    login = { username: $("user").value, password: $("password").value };
    $("login").hidden = true;
    open();
  }

  const THEMES = ["auto", "light", "dark"];
  const theme = () => document.documentElement.dataset.theme ?? "auto";

  function setTheme(next) {
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    $("theme").textContent = `theme: ${next}`;
    Charts.recolour();
    charts.forEach((chart) => chart.paint());
    dirty = true;
  }

  /** The run that the address names; empty if it names none. */
  function pickedInAddress() {
    const name = new URLSearchParams(location.hash.slice(1)).get("run") ?? "";
    return Wire.isName(name) ? name : "";
  }

  function pick(name) {
    runs.picked = name;
    dirty = true;
    choose();
  }

  function onPick(event) {
    const name = event.target.value;
    history.replaceState(null, "", name ? `#run=${name}` : location.pathname + location.search);
    pick(name);
  }

  function onSkip(event) {
    event.preventDefault(); // the address goes on naming the run
    $("rows").focus();
  }

  function start() {
    const tip = new Tip($("tip"));
    charts = [
      Charts.accuracy({ place: $("chart-accuracy"), line: $("accuracy-said"), title: $("h-accuracy") }),
      Charts.network({ place: $("chart-network"), line: $("network-said") }),
    ];
    votes = new Votes.List({ list: $("rows"), line: $("vote-said"), tip, older: $("older"), only: $("only-rejected"), newer: $("newer") });
    map = new Agents.Map({ canvas: $("map"), line: $("agent-said"), tip });
    $("asking").textContent = url; // a link to this page may name any broker
    $("skip").addEventListener("click", onSkip);
    $("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]));
    $("run").addEventListener("change", onPick);
    $("login").addEventListener("submit", onLogin);
    addEventListener("hashchange", () => pick(pickedInAddress()));
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      matchMedia(query).addEventListener("change", () => setTheme(theme()));
    }
    document.addEventListener("visibilitychange", () => { dirty = true; });
    pick(pickedInAddress());
    if (url) open();
    setInterval(draw, EVERY);
  }

  start();
  return { runs, get shown() { return runs.board; }, get charts() { return charts; } };
})();
