"use strict";

/* What is known of a run from what its topics said (docs/protocol.md).

Pure: no page, no network, no clock. Whatever arrives is hostile: a value of another kind counts as
missing, texts are cut, and everything that is kept has a limit. */

const Board = (() => {
  const LIMITS = { rounds: 5000, agents: 20000, voters: 1000, reasons: 50, text: 200 };

  const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
  const count = (value) => (Number.isSafeInteger(value) && value >= 0 ? value : null);
  const text = (value) =>
    typeof value === "string" ? value.slice(0, LIMITS.text).replace(/\p{Cc}/gu, " ") : "";
  const list = (value) => (Array.isArray(value) ? value : []);
  const map = (value) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? value : {};

  /** A run of which nothing is known but its name. */
  function fresh(name) {
    return {
      name,
      manifest: null,
      round: null, // what the retained message "round" says: number, phase, who validates
      rows: [], // a row a round, in order
      note: "", // the last thing out of the ordinary
      refused: { before: new Map(), until: 0, now: new Map(), latest: "" },
      agents: new Map(), // name -> online
      suspects: new Map(), // name -> { suspicion, detector, state }
      detected: false, // whether anybody looks for fakes
    };
  }

  /** Take in what a topic below the run said; an unreadable message changes nothing. */
  function hear(board, topic, data) {
    if (topic.startsWith("agent/")) return hearAgent(board, topic.slice(6), data);
    if (data === null) return; // removed from the broker
    if (topic === "manifest") board.manifest = readManifest(map(data));
    else if (topic === "round") board.round = readRound(map(data));
    else if (topic === "log/round") hearRecord(board, map(data));
    else if (topic === "log/refused") hearRefused(board, map(data));
    else if (topic === "log/past") hearPast(board, map(data));
  }

  function readManifest(said) {
    return {
      model: text(said.model), parameters: count(said.parameters), codec: text(said.codec),
      judge: text(said.judge), lookBack: count(said.look_back),
    };
  }

  function readRound(said) {
    const names = list(said.validators).slice(0, LIMITS.voters).map(text);
    return {
      round: count(said.round), attempt: count(said.attempt), phase: text(said.phase),
      called: said.contributors === "all" ? null : list(said.contributors).length,
      validators: names,
    };
  }

  function hearAgent(board, name, data) {
    if (data === null) board.agents.delete(name);
    else if (board.agents.has(name) || board.agents.size < LIMITS.agents) {
      board.agents.set(name, map(data).online === true);
    }
  }

  function hearRecord(board, said) {
    const round = count(said.round);
    if (round === null) return;
    if (typeof said.repeated === "string") {
      board.note = `round ${round} is tried again (attempt ${count(said.attempt) ?? "?"}): ${text(said.repeated)}`;
      return;
    }
    if (round === 0) { // the run begins
      board.rows = [];
      board.note = "";
      board.refused = fresh("").refused;
      board.suspects.clear();
      return;
    }
    board.note = "";
    // A run goes back if its newest model was removed: what came after is not true any more.
    while (board.rows.length && board.rows.at(-1).round >= round) board.rows.pop();
    board.rows.push(readRecord(board, round, said));
    if (board.rows.length > LIMITS.rounds) board.rows.splice(0, board.rows.length - LIMITS.rounds);
    board.refused.now = readCounts(said.refused);
    hearSuspicion(board, said);
  }

  function readRecord(board, round, said) {
    const votes = map(said.votes);
    return {
      round, attempt: count(said.attempt) ?? 1, why: text(said.why),
      accepted: typeof said.accepted === "boolean" ? said.accepted : null,
      accuracy: number(said.accuracy), candidate: number(said.candidate_accuracy),
      backdoor: number(said.backdoor),
      votes: { poisoned: count(votes.poisoned) ?? 0, clean: count(votes.clean) ?? 0, silent: count(votes.silent) ?? 0 },
      voters: readVoters(board, round, map(said.voters)),
      called: count(said.called), updates: count(said.updates), missing: count(said.missing),
      rate: number(said.updates_per_second), seconds: number(said.seconds),
      bytesIn: count(said.bytes_in), bytesOut: count(said.bytes_out), dropped: count(said.dropped) ?? 0,
      refused: readCounts(said.refused),
    };
  }

  /** Each vote by name, in the order of names; who was asked and said nothing is silent. */
  function readVoters(board, round, said) {
    const asked = board.round !== null && board.round.round === round ? board.round.validators : [];
    const names = [...new Set([...Object.keys(said).slice(0, LIMITS.voters), ...asked])].sort();
    return names.slice(0, LIMITS.voters).map((name) => {
      const vote = Object.hasOwn(said, name) ? map(said[name]) : {};
      const how = vote.poisoned === true ? "poisoned" : vote.poisoned === false ? "clean" : "silent";
      return { name: text(name), how, score: number(vote.score), threshold: number(vote.threshold), bytes: count(vote.bytes) };
    });
  }

  function readCounts(said) {
    const known = Object.entries(map(said)).filter(([, value]) => count(value) > 0);
    return new Map(known.slice(0, LIMITS.reasons).map(([reason, value]) => [text(reason), value]));
  }

  function hearRefused(board, said) {
    const latest = map(said.latest);
    if (latest.reason) board.refused.latest = `${text(latest.agent) || "somebody"}: ${text(latest.reason)}`;
  }

  /** The rounds in short that were over before we listened. */
  function hearPast(board, said) {
    const columns = list(said.columns);
    const known = new Set(board.rows.map((row) => row.round));
    const rows = list(said.rows).slice(-LIMITS.rounds).map((values) => {
      const row = Object.fromEntries(columns.map((column, i) => [column, list(values)[i]]));
      return readRecord(board, count(row.round), { ...row, votes: row, voters: {} });
    });
    board.refused.until = rows.reduce((last, row) => Math.max(last, row.round ?? 0), 0);
    board.refused.before = readCounts(said.refused);
    const news = rows.filter((row) => row.round && !known.has(row.round));
    board.rows = [...board.rows, ...news].sort((a, b) => a.round - b.round).slice(-LIMITS.rounds);
  }

  function hearSuspicion(board, said) {
    if (!("suspicion" in said)) return;
    board.detected = true;
    const before = new Map(board.suspects); // who is in quarantine is not looked at any more
    board.suspects.clear();
    const detector = map(said.suspected), quarantined = new Set(list(said.quarantined));
    const forGood = new Set(list(said.for_good));
    const named = { ...map(said.suspicion) };
    for (const name of [...quarantined, ...forGood]) if (typeof name === "string") named[name] ??= null;
    for (const [name, value] of Object.entries(named).slice(0, LIMITS.agents)) {
      const state = forGood.has(name) ? "out for good" : quarantined.has(name) ? "in quarantine"
        : Object.hasOwn(detector, name) ? "suspected" : "";
      if (!state && !(number(value) > 0)) continue;
      const then = before.get(text(name));
      board.suspects.set(text(name), {
        suspicion: number(value) ?? then?.suspicion ?? null,
        detector: text(detector[name]) || (state ? then?.detector ?? "" : ""), state,
      });
    }
  }

  /** Reason -> count over the whole run, as far as we know it. */
  function refusals(board) {
    const total = new Map(board.refused.before);
    for (const row of board.rows) {
      if (row.round <= board.refused.until) continue;
      for (const [reason, value] of row.refused) total.set(reason, (total.get(reason) ?? 0) + value);
    }
    return total;
  }

  /** The figures at a glance. */
  function figures(board) {
    const last = board.rows.at(-1) ?? null;
    const decided = (verdict) => board.rows.filter((row) => row.accepted === verdict).length;
    let online = 0;
    for (const there of board.agents.values()) online += there;
    const states = [...board.suspects.values()].map((suspect) => suspect.state);
    const quarantined = states.filter((state) => state && state !== "suspected").length;
    return { last, accepted: decided(true), rejected: decided(false), online, agents: board.agents.size, quarantined };
  }

  return { LIMITS, fresh, hear, refusals, figures };
})();
