// Who is called by a number instead of by name (docs/protocol.md, "Called by number").

import { sha256 } from './keys.mjs';

/** The place of an agent, from 0 to 2^30 - 1: the first 30 bits of a hash. */
export const placeOf = (number, name) => Math.floor(
  sha256(Buffer.from(number, 'hex'), Buffer.from(name)).readUInt32BE() / 4,
);

/** Whether an agent is among those who are named, or called by number. */
export function isCalled(name, names, call) {
  if (names.includes(name)) return true;
  if (!call || call.without?.includes(name)) return false;
  return placeOf(call.number, name) < call.share;
}
