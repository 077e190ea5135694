// Keys of one attempt at a round (docs/protocol.md, "Secure aggregation"): agreement, masks, boxes.

import {
  createCipheriv, createDecipheriv, createHash, createPrivateKey, createPublicKey, diffieHellman,
  hkdfSync,
} from 'node:crypto';
import { endianness } from 'node:os';

export const KEY = 32; // bytes of a key, private or public
const NONCE = 12;
const SEAL = 16;

// What stands before the 32 bytes of an X25519 key in its file formats (RFC 8410).
const PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI = Buffer.from('302a300506032b656e032100', 'hex');

/** A private key of 32 bytes and the public one that goes with it. */
export class KeyPair {
  constructor(secret) {
    const der = Buffer.concat([PKCS8, secret]);
    this.secret = Buffer.from(secret);
    this.key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    this.open = createPublicKey(this.key).export({ format: 'der', type: 'spki' }).subarray(-KEY);
  }

  /** The secret that two share; throws if the other's key is a point of low order. */
  agree(open) {
    const der = Buffer.concat([SPKI, open]);
    const publicKey = createPublicKey({ key: der, format: 'der', type: 'spki' });
    return diffieHellman({ privateKey: this.key, publicKey });
  }
}

export const sha256 = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest();

/** What binds a key to its purpose, its attempt and its two agents. */
export const infoOf = ({ run, round, attempt, group }, purpose, first, second) => Buffer.from(
  ['fedjury/secagg', purpose, run, round, attempt, group, first, second].join('/'),
);

/** A key of 32 bytes from a secret, for one purpose. */
export const derive = (secret, info) => Buffer.from(hkdfSync('sha256', secret, '', info, KEY));

/**
 * Stretch a key, which is used once, into numbers of 32 bits that look random.
 * @returns {Uint32Array}
 */
export function mask(key, length) {
  const stream = createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(4 * length));
  const own = Buffer.from(new ArrayBuffer(stream.length)); // where numbers of four bytes can begin
  own.set(stream);
  if (endianness() === 'BE') own.swap32();
  return new Uint32Array(own.buffer);
}

/** Put content into a box that only opens with its key and header: nonce, content, seal. */
export function seal(key, content, header, random) {
  const nonce = random(NONCE);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(header);
  return Buffer.concat([nonce, cipher.update(content), cipher.final(), cipher.getAuthTag()]);
}

/** Open a box; null if it is of somebody else, of another attempt, or was changed. */
export function unseal(key, box, header) {
  const cipher = createDecipheriv('aes-256-gcm', key, box.subarray(0, NONCE), { authTagLength: SEAL })
    .setAAD(header)
    .setAuthTag(box.subarray(-SEAL));
  try {
    return Buffer.concat([cipher.update(box.subarray(NONCE, -SEAL)), cipher.final()]);
  } catch {
    return null;
  }
}
