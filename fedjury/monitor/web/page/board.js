"use strict";

/* What is known of a run from what its topics said (docs/protocol.md).

Pure: no page, no network, no clock. Whatever arrives is hostile: a value of another kind counts as
missing, texts are cut, and everything that is kept has a limit. */

const Board = (() => {
  const LIMITS = {
    rounds: 5000, agents: 20000, voters: 1000, reasons: 50, metrics: 4,
    votes: 200000, // and groups and their members, in all rounds together; of older ones their numbers are kept
  };
  const AT_WORK = new Set(["train", "validate", "validate_groups", "judge_and_train"]);

  const { number, share, amount, count, text, list, map } = Values;

  /** A run of which nothing is known but its name. */
  function fresh(name) {
    return {
      name,
      manifest: null,
      round: null, // what the retained message "round" says: number, attempt, phase, how many are selected
      removed: false, // whether the manifest was removed from the broker
      asked: { round: null, names: [] }, // who is to vote
      rows: [], // a row a round, in order
      votes: 0, // kept in them, one by one, and groups
      forgotten: { accepted: 0, rejected: 0, groups: 0, left: 0, first: null }, // what older rows add up to
      note: "", // the last thing out of the ordinary
      refused: noRefusals(),
      agents: new Map(), // name -> online
      grouped: new Map(), // name -> { all, out }: in how many groups, and how many of these were left out
      suspects: new Map(), // name -> { suspicion, detector, state }
    };
  }

  /** Refused in the rounds `until` one, in later ones that are no row any more, and in the one at hand. */
  function noRefusals() {
    return { before: new Map(), until: 0, since: new Map(), now: new Map(), round: 0, latest: "" };
  }

  /** Take in what a topic below the run said; an unreadable message changes nothing.

  Returns whether rounds are missing, which `log/history` may know. */
  function hear(board, topic, data) {
    if (topic.startsWith("agent/")) hearAgent(board, topic.slice(6), data);
    else if (topic === "round") return hearRound(board, data);
    else if (topic === "manifest") hearManifest(board, data);
    else if (data === null) return false; // removed from the broker
    else if (topic === "log/round") return hearRecord(board, map(data));
    else if (topic === "log/invalid") hearRefused(board, map(data));
    else if (topic === "log/history") hearPast(board, map(data));
    return false;
  }

  function hearManifest(board, data) {
    board.removed = data === null;
    if (board.removed) return;
    const { model, parameters, codec, judge } = map(data);
    board.manifest = { model: text(model), parameters: count(parameters), codec: text(codec), judge: text(judge) };
  }

  function hearAgent(board, name, data) {
    if (data === null) board.agents.delete(name);
    else if (board.agents.has(name) || board.agents.size < LIMITS.agents) {
      board.agents.set(name, map(data).online === true);
    }
  }

  function hearRound(board, data) {
    if (data === null) { // the run goes on: its aggregator waits for agents
      board.round = null;
      return false;
    }
    const said = map(data), round = count(said.round), names = list(said.validators);
    const byNumber = count(map(map(said.calls).contributors).count); // of those, few are named
    board.round = {
      round, attempt: count(said.attempt) ?? 1, phase: text(said.phase),
      selected: said.contributors === "all" ? null : byNumber ?? list(said.contributors).length,
    };
    if (names.length) board.asked = { round, names: names.slice(0, LIMITS.voters).map(text) };
    return round !== null && AT_WORK.has(board.round.phase) && drop(board, round);
  }

  // ------------------------------------------------------------ rounds

  function hearRecord(board, said) {
    const round = count(said.round);
    if (round === null) return false;
    if (round === 0) return begin(board);
    if (typeof said.repeated === "string") {
      board.note = `round ${round} is tried again (attempt ${count(said.attempt) ?? "?"}): ${text(said.repeated)}`;
      return drop(board, round);
    }
    board.note = "";
    board.refused.now = readCounts(said.invalid_messages);
    hearSuspicion(board, said);
    const row = readRecord(round, said, readVoters(board, round, said), Groups.read(said)), last = board.rows.at(-1);
    const again = last !== undefined && alike(last, row);
    // After a reconnect it is said again, when we may not know any more who was asked.
    if (again && weight(last) >= weight(row)) return false;
    const back = drop(board, round) && !again;
    const missing = (board.rows.at(-1)?.round ?? 0) < round - 1;
    board.rows.push(row);
    board.votes += weight(row);
    Groups.note(board.grouped, row.groups, 1);
    limit(board);
    return back || missing;
  }

  /** The run begins, perhaps again: only who is there stays. */
  function begin(board) {
    const { manifest, agents, round } = board;
    const first = round?.round === 1 && AT_WORK.has(round.phase);
    Object.assign(board, fresh(board.name), { manifest, agents, round: first ? round : null });
    return false;
  }

  /** Forget this round and later ones; returns whether there were any.

  A run goes back if its newest model was removed: what came after is not true any more. */
  function drop(board, round) {
    const before = board.rows.length;
    while (board.rows.length && board.rows.at(-1).round >= round) {
      const row = board.rows.pop();
      board.votes -= weight(row);
      Groups.note(board.grouped, row.groups, -1);
    }
    return board.rows.length < before;
  }

  /** Keep the last rounds, and the votes one by one of as many as there is room for. */
  function limit(board) {
    const { forgotten, refused } = board;
    for (const row of board.rows.splice(0, Math.max(0, board.rows.length - LIMITS.rounds))) {
      board.votes -= weight(row);
      forgotten.first ??= row.round;
      forgotten.accepted += row.accepted === true;
      forgotten.rejected += row.accepted === false;
      forgotten.groups += row.groups?.count ?? 0;
      forgotten.left += row.groups?.out ?? 0;
      if (row.round > refused.until) add(refused.since, row.refused);
    }
    for (let i = 0; board.votes > LIMITS.votes; i++) {
      board.votes -= weight(board.rows[i]);
      board.rows[i] = { ...board.rows[i], voters: [], groups: Groups.short(board.rows[i].groups) };
    }
  }

  /** How much is kept of a round one by one. */
  const weight = (row) => row.voters.length + Groups.weight(row.groups);

  /** Whether both can be of the same round of the same run. */
  const alike = (a, b) => ["round", "attempt", "accepted", "accuracy", "updates"].every((key) => a[key] === b[key]) &&
    a.metrics.size === b.metrics.size && [...a.metrics].every(([name, value]) => b.metrics.get(name) === value);

  function readRecord(round, said, voters, groups) {
    const votes = map(said.votes);
    return {
      round, attempt: count(said.attempt) ?? 1, why: text(said.why), judged: count(said.judged),
      accepted: typeof said.accepted === "boolean" ? said.accepted : null,
      accuracy: share(said.accuracy), candidate: share(said.candidate_accuracy), backdoor: share(said.backdoor),
      largest: share(said.largest_backdoor), lost: share(said.accuracy_lost),
      epsilon: amount(map(said.privacy).epsilon), delta: amount(map(said.privacy).delta),
      metrics: readMetrics(said.metrics), tried: readMetrics(said.candidate_metrics),
      votes: { poisoned: count(votes.poisoned) ?? 0, clean: count(votes.clean) ?? 0, silent: count(votes.silent) ?? 0 },
      voters, groups, pooled: readPooled(map(said.pooled)),
      updates: count(said.updates), declined: count(said.declined), missing: count(said.missing), rate: amount(said.updates_per_second),
      bytesIn: amount(said.bytes_in), bytesOut: amount(said.bytes_out), dropped: count(said.dropped),
      refused: readCounts(said.invalid_messages),
    };
  }

  /** What the server says of the error counts of all validators together; null where it does not. */
  function readPooled(said) {
    const score = number(said.score), threshold = number(said.threshold);
    return score === null || threshold === null ? null : { score, threshold };
  }

  /** What else was measured, by name: the first few. */
  function readMetrics(said) {
    const every = Object.entries(map(said)).filter(([, value]) => number(value) !== null);
    return new Map(every.slice(0, LIMITS.metrics).map(([name, value]) => [text(name).slice(0, 40), value]));
  }

  /** What is shown of runs of which nobody measured accuracy: the first of their metrics; else "". */
  function measured(rows) {
    if (rows.some((row) => row.accuracy !== null)) return "";
    return rows.find((row) => row.metrics.size)?.metrics.keys().next().value ?? "";
  }

  /** Each vote by name, in the order of names; who was asked and said nothing is silent. */
  function readVoters(board, round, said) {
    const voters = map(said.voters), silent = count(map(said.votes).silent) > 0;
    const asked = silent && board.asked.round === round ? board.asked.names : [];
    const names = [...new Set([...Object.keys(voters).slice(0, LIMITS.voters), ...asked])].sort();
    return names.slice(0, LIMITS.voters).map((name) => {
      const vote = Object.hasOwn(voters, name) ? map(voters[name]) : {};
      const how = vote.poisoned === true ? "poisoned" : vote.poisoned === false ? "clean" : "silent";
      return { name: text(name), how, score: number(vote.score), threshold: number(vote.threshold), size: amount(vote.size) };
    });
  }

  /** The rounds in short; where we know something else, the run has gone back or begun again. */
  function hearPast(board, said) {
    const columns = list(said.columns).slice(0, 100), past = new Map();
    for (const values of list(said.rows).slice(-LIMITS.rounds)) {
      const row = Object.fromEntries(columns.map((column, i) => [column, list(values)[i]]));
      if (count(row.round)) past.set(row.round, readRecord(row.round, { ...row, votes: row }, [], Groups.short(Groups.read(row))));
    }
    const first = Math.min(...past.keys()), last = Math.max(0, ...past.keys());
    const merged = board.rows.filter(({ round }) => round < first || round > last);
    const known = new Map(board.rows.map((row) => [row.round, row]));
    for (const [round, row] of past) merged.push(known.has(round) && alike(known.get(round), row) ? known.get(round) : row);
    const kept = new Set(merged);
    for (const row of board.rows) if (!kept.has(row)) Groups.note(board.grouped, row.groups, -1);
    board.rows = merged.sort((a, b) => a.round - b.round);
    board.votes = board.rows.reduce((sum, row) => sum + weight(row), 0);
    Object.assign(board.refused, { until: last, before: readCounts(said.invalid_messages), since: new Map() });
    limit(board);
  }

  // ------------------------------------------------------------ refusals and suspicion

  function readCounts(said) {
    const known = Object.entries(map(said)).filter(([, value]) => count(value) > 0);
    return new Map(known.slice(0, LIMITS.reasons).map(([reason, value]) => [text(reason), value]));
  }

  function hearRefused(board, said) {
    const latest = map(said.latest), { refused } = board;
    if (latest.reason) refused.latest = `${text(latest.agent) || "somebody"}: ${text(latest.reason)}`;
    if (count(said.round) <= (board.rows.at(-1)?.round ?? 0)) return; // the record of that round has them all
    refused.round = count(said.round);
    refused.now = readCounts(said.invalid_messages);
  }

  function add(total, counts) {
    for (const [reason, value] of counts) {
      if (total.has(reason) || total.size < LIMITS.reasons) total.set(reason, (total.get(reason) ?? 0) + value);
    }
    return total;
  }

  /** Reason -> count over the whole run, as far as we know it. */
  function refusals(board) {
    const { before, until, since, now, round } = board.refused;
    const total = add(new Map(before), since);
    for (const row of board.rows) if (row.round > until) add(total, row.refused);
    if (round > Math.max(until, board.rows.at(-1)?.round ?? 0)) add(total, now);
    return total;
  }

  function hearSuspicion(board, said) {
    if (!("suspicion" in said)) return;
    const before = board.suspects; // who is in quarantine is not looked at any more
    board.suspects = new Map();
    const detector = map(said.flagged), quarantined = new Set(list(said.quarantined));
    const permanent = new Set(list(said.permanent));
    const found = new Map(Object.entries(map(said.suspicion)));
    for (const name of [...quarantined, ...permanent]) if (typeof name === "string" && !found.has(name)) found.set(name, null);
    for (const [name, value] of [...found].slice(0, LIMITS.agents)) {
      const state = permanent.has(name) ? "out permanently" : quarantined.has(name) ? "in quarantine"
        : Object.hasOwn(detector, name) ? "flagged" : "";
      if (!state && !share(value)) continue;
      const then = before.get(text(name));
      board.suspects.set(text(name), {
        suspicion: share(value) ?? then?.suspicion ?? null,
        detector: Object.hasOwn(detector, name) ? text(detector[name]) : (state && then?.detector) || "", state,
      });
    }
  }

  /** The figures at a glance. */
  function figures(board) {
    const { rows, forgotten } = board;
    const decided = (verdict) => rows.filter((row) => row.accepted === verdict).length;
    let online = 0, quarantined = 0;
    for (const there of board.agents.values()) online += there;
    for (const { state } of board.suspects.values()) quarantined += state !== "" && state !== "flagged";
    const groups = { all: forgotten.groups, out: forgotten.left };
    for (const row of rows) {
      groups.all += row.groups?.count ?? 0;
      groups.out += row.groups?.out ?? 0;
    }
    return {
      last: rows.at(-1) ?? null, groups, first: forgotten.first ?? rows[0]?.round ?? 1,
      accepted: forgotten.accepted + decided(true), rejected: forgotten.rejected + decided(false),
      online, agents: board.agents.size, quarantined,
    };
  }

  /** Whether there is nothing more to come. */
  const over = (board) => board.removed || board.round?.phase === "done";

  return { LIMITS, fresh, hear, refusals, figures, measured, over };
})();
