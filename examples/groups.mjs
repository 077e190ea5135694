// Which groups a validator judges (docs/protocol.md, "Votes on groups").

/**
 * The numbers of its groups, ascending: all, or as many as each validator judges, in turn.
 * @param {{groups: number, each: number, validators: string[]}} round
 * @returns {number[]}
 */
export function groupsOf({ groups, each, validators }, name) {
  const all = Array.from({ length: groups }, (_, group) => group);
  if (!each || each >= groups) return all;
  const first = validators.indexOf(name) * each;
  const turn = new Set(Array.from({ length: each }, (_, i) => (first + i) % groups));
  return all.filter((group) => turn.has(group));
}
