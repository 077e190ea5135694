// Who is called by a number instead of by name (docs/protocol.md, "Called by number").

import { sha256 } from './keys.mjs';

/** The place of an agent, from 0 to 2^30 - 1. */
export function placeOf(number, name) {
  const words = Buffer.from(number, 'hex');
  const hash = sha256(Buffer.from(name));
  let total = words.readBigUInt64LE(0);
  for (const i of [0, 1, 2]) {
    total += words.readBigUInt64LE(8 * (i + 1)) * BigInt(hash.readUInt32LE(4 * i));
  }
  return Number(BigInt.asUintN(64, total) >> 34n);
}

/** Whether an agent is among those who are named, or called by number. */
export function isCalled(name, names, call) {
  if (names.includes(name)) return true;
  if (!call || call.without?.includes(name)) return false;
  return placeOf(call.number, name) < call.share;
}
