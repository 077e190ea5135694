// Updates as whole numbers: clipped, weighted, rounded and packed (docs/protocol.md, "Secure
// aggregation").

/** The whole number next to one that is not negative; of two the even one. */
function rounded(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return below + Number(rest > 0.5 || (rest === 0.5 && below % 2 === 1));
}

/** How many binary digits a whole number has. */
export const digits = (number) => 32 - Math.clz32(number);

/** The largest number that an honest coordinate becomes. */
export const largestOf = (bits, members) => 2 ** (bits - digits(members - 1)) - 1;

/**
 * What is summed of an update of d numbers: d + 1, of which the last says which share was clipped.
 * @param {number} share its weight, 1 at most
 * @param {boolean} [hidden] whether the weight is summed as well, as one number more at the end
 * @throws if it is not finite
 */
export function encodeFixed(update, { clip, bits, members }, share, hidden = false) {
  if (!update.every(Number.isFinite)) throw new Error('the update is not finite');
  const largest = largestOf(bits, members);
  const scale = largest / (2 * clip);
  const result = new Uint32Array(update.length + 1 + Number(hidden));
  let clipped = 0;
  update.forEach((value, i) => {
    clipped += Number(Math.abs(value) > clip);
    result[i] = rounded((Math.min(Math.max(value, -clip), clip) * share + clip) * scale);
  });
  result[update.length] = rounded((clipped / Math.max(1, update.length)) * largest);
  if (hidden) result[update.length + 1] = rounded(share * largest);
  return result;
}

/**
 * An update that, once it is rounded, is no longer than `norm` (L2); null if rounding alone could
 * make it longer.
 */
export function shortened(update, norm, { clip, bits, members }) {
  const room = norm - (Math.sqrt(update.length) * clip) / largestOf(bits, members);
  if (room <= 0) return null;
  const length = Math.sqrt(update.reduce((sum, value) => sum + value * value, 0));
  return length <= room ? update : update.map((value) => value * ((room * (1 - 1e-6)) / length));
}

/** Pack the lowest `bits` of each number, a multiple of four; an odd count ends in a zero number. */
export function packed(words, bits) {
  const each = bits / 4; // half bytes
  const result = new Uint8Array(Math.ceil(words.length / 2) * each);
  words.forEach((word, i) => {
    for (let j = 0; j < each; j++) {
      const at = i * each + j;
      result[at >> 1] |= ((word >>> (4 * j)) & 15) << (4 * (at & 1));
    }
  });
  return result;
}
