// Shamir's secret sharing over the prime 2^31 + 11: any t shares give the secret, fewer say nothing.

const PRIME = 2 ** 31 + 11;
const BITS = 31n; // of a part: any number of so many is less than the prime
export const PARTS = 9; // of a secret of 32 bytes

/** Cut a secret of 32 bytes into its parts, most significant first. */
export function partsOf(secret) {
  const value = BigInt(`0x${Buffer.from(secret).toString('hex')}`);
  return Array.from({ length: PARTS }, (_, p) => (
    Number(BigInt.asUintN(Number(BITS), value >> (BITS * BigInt(PARTS - 1 - p))))));
}

/** Draw numbers below the prime, of 128 random bits each: the high halves come before the low. */
function uniform(count, random) {
  const bytes = random(16 * count);
  return Array.from({ length: count }, (_, i) => {
    const [high, low] = [8 * i, 8 * (count + i)].map((at) => bytes.readBigUInt64LE(at));
    return Number(((high << 64n) | low) % BigInt(PRIME));
  });
}

/**
 * Share secrets among n, of whom `threshold` can restore them.
 * @returns {Buffer[]} for each of them its shares of all the secrets: the values at 1, 2 …, n of
 *   the polynomials that are the parts at 0
 */
export function share(secrets, n, threshold, random) {
  const parts = secrets.flatMap(partsOf);
  const drawn = uniform((threshold - 1) * parts.length, random);
  return Array.from({ length: n }, (_, i) => {
    const result = Buffer.alloc(4 * parts.length);
    parts.forEach((part, p) => {
      let value = 0;
      for (let at = p; at < drawn.length; at += parts.length) {
        value = (value * (i + 1) + drawn[at]) % PRIME; // below 2^53, as n is 10,000 at most
      }
      result.writeUInt32LE((value * (i + 1) + part) % PRIME, 4 * p);
    });
    return result;
  });
}
