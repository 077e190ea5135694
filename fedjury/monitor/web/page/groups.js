"use strict";

/* The groups of a round: which were aggregated and which were left out, the votes on each, and in
   which groups an agent was. Pure, but for the table. */

const Groups = (() => {
  const LIMITS = { groups: 1000, members: 20000 }; // of a round that are kept one by one
  const NAMED = 8; // agents that are named of a group
  const ROUNDS = 5; // rounds that are named of an agent
  const MOST = 12; // agents in the table
  const NUMBER = /^(0|[1-9][0-9]{0,9})$/;
  const { count, amount, text, list, map } = Values;
  const grouped = new Intl.NumberFormat("en");

  /** What a record says of them; null where agents are in no groups. */
  function read(said) {
    const every = Object.entries(map(said.groups)).filter(([key]) => NUMBER.test(key));
    const short = map(said.group_counts), left = every.filter(([, value]) => text(map(value).why) !== "");
    if (!every.length && !count(short.count)) return null;
    if (!every.length) return { list: [], count: short.count, out: Math.min(count(short.left_out) ?? 0, short.count), size: amount(short.size), cpu: amount(short.cpu) };
    let room = LIMITS.members;
    const one = ([key, value]) => {
      const { members, poisoned, clean, silent, why } = map(value);
      const names = list(members).slice(0, room).map(text);
      room -= names.length;
      return { number: key, members: names, agents: list(members).length, why: text(why),
        poisoned: count(poisoned) ?? 0, clean: count(clean) ?? 0, silent: count(silent) ?? 0 };
    };
    const shown = every.sort(([a], [b]) => a - b).slice(0, LIMITS.groups).map(one);
    const voters = Object.values(map(said.group_voters)).map(map);
    return { list: shown, count: every.length, out: left.length, size: median(voters, "size"), cpu: median(voters, "cpu") };
  }

  /** The upper median of what validators say; null where nobody does. */
  function median(voters, key) {
    const values = voters.map((voter) => amount(voter[key])).filter((value) => value !== null).sort((a, b) => a - b);
    return values.length ? values[Math.floor(values.length / 2)] : null;
  }

  /** How much of a round's groups is kept, for who keeps only so much. */
  const weight = (groups) => (groups?.list ?? []).reduce((sum, group) => sum + 1 + group.members.length, 0);

  /** The same without the groups one by one. */
  const short = (groups) => (groups === null ? null : { ...groups, list: [] });

  /** Note in which groups agents were (by: 1), or that a round is gone (by: -1). */
  function note(agents, groups, by) {
    for (const group of groups?.list ?? []) {
      for (const name of group.members) {
        const known = agents.get(name);
        if (known === undefined && (by < 0 || agents.size >= LIMITS.members)) continue;
        const { all, out } = known ?? { all: 0, out: 0 };
        const then = { all: all + by, out: out + (group.why ? by : 0) };
        if (then.all > 0) agents.set(name, then);
        else agents.delete(name);
      }
    }
  }

  /** What a round's groups came to. */
  function tally(groups) {
    if (groups === null) return "";
    const every = `${grouped.format(groups.count)} group${groups.count === 1 ? "" : "s"}`;
    return groups.out ? `${grouped.format(groups.out)} of ${every} left out` : `${every}, none left out`;
  }

  /** What judging them cost the median validator. */
  function cost({ size, cpu }) {
    if (!size) return "";
    return `${Charts.short(size)}B${cpu ? `, ${time(cpu)}` : ""}`;
  }

  /** Microseconds in words. */
  const time = (value) => (value < 999500 ? `${Number((value / 1000).toPrecision(3))} ms` : `${(value / 1e6).toFixed(1)} s`);

  /** A group in words. */
  function said(group, round) {
    const votes = group.poisoned + group.clean + group.silent;
    const names = group.members.slice(0, NAMED).join(", ") + (group.agents > NAMED ? ", …" : "");
    return [
      `round ${round}, group ${group.number}: ${group.why ? `left out (${group.why})` : "aggregated"}`,
      votes ? `${group.poisoned} poisoned, ${group.clean} clean, ${group.silent} silent` : "no vote",
      `${grouped.format(group.agents)} agent${group.agents === 1 ? "" : "s"}${names ? `: ${names}` : ""}`,
    ].join("; ");
  }

  /** In which groups an agent was; empty if in none. */
  function history(board, name) {
    const known = board.grouped.get(name);
    if (known === undefined) return "";
    const rounds = `in a group in ${grouped.format(known.all)} round${known.all === 1 ? "" : "s"}`;
    if (!known.out) return `${rounds}, never left out`;
    const last = leftOut(board, name);
    return `${rounds}, left out in ${grouped.format(known.out)}${last.length ? ` (the last: ${last.join(", ")})` : ""}`;
  }

  /** The last rounds in which the group of an agent was left out. */
  function leftOut(board, name) {
    const found = [];
    for (let i = board.rows.length - 1; i >= 0 && found.length < ROUNDS; i--) {
      const { groups, round } = board.rows[i];
      if (groups?.list.some(({ why, members }) => why && members.includes(name))) found.push(round);
    }
    return found;
  }

  /** Those who were most often in groups that were left out: [name, { all, out }]. */
  function most(board) {
    const found = [...board.grouped].filter(([, { out }]) => out > 0);
    const worse = ([a, x], [b, y]) => y.out - x.out || x.all - y.all || (a < b ? -1 : 1);
    return found.sort(worse).slice(0, MOST);
  }

  let drawn = []; // the board, and its last round, that the table shows

  function table(made, board) {
    const last = board.rows.at(-1);
    if (drawn[0] === board && drawn[1] === last) return;
    drawn = [board, last];
    const found = most(board);
    made.hidden = !found.length;
    made.tBodies[0].replaceChildren(...found.map(([name, { all, out }]) => {
      const row = document.createElement("tr");
      for (const cell of [name, grouped.format(out), grouped.format(all), Charts.percent(out / all)]) row.insertCell().textContent = cell;
      return row;
    }));
  }

  return { read, weight, short, note, tally, cost, said, history, most, table };
})();
