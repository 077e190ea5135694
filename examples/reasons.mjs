// Why a broker cannot be had, in words: what happened, and what to do about it.

const START = 'start one, or say where one is with --broker HOST:PORT';
const AUTHORITY = 'it is of an authority that we do not know; give that one\'s certificate as --ca '
  + 'FILE, or --ca system if it is a public one';

const CERTIFICATE = {
  CERT_HAS_EXPIRED: () => `it has expired; have a new one made, or set this machine's clock right, which says ${now()}`,
  CERT_NOT_YET_VALID: () => `it is not valid yet; this machine's clock says ${now()}: set it right, or wait`,
  CERT_SIGNATURE_FAILURE: () => 'it was not signed by the known authority (--ca, or ca.crt in --secrets)',
  DEPTH_ZERO_SELF_SIGNED_CERT: () => 'it is its own authority; give it as --ca FILE if it is the right one',
  ERR_TLS_CERT_ALTNAME_INVALID: (host) => `it does not name ${host}; connect by a name that it has, or have one made that names it`,
  SELF_SIGNED_CERT_IN_CHAIN: () => AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT: () => AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: () => AUTHORITY,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: () => AUTHORITY,
};

const OURS = {
  EMFILE: 'this process cannot open more files (ulimit -n)',
  ENFILE: 'this machine cannot open more files',
  EADDRNOTAVAIL: 'this machine has no free port to connect from, or no network',
};

// What the system says of a broker, or a network, that is not there yet.
const AWAY = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN'];

/** Whether waiting may mend it: a device may start before its network, or the broker, does. */
export const mayCome = ({ code }) => AWAY.includes(code);

// The return codes of a CONNACK (MQTT 3.1.1, table 3.1).
const CONNACK = {
  1: 'it does not speak MQTT 3.1.1',
  2: 'it does not take RUN.NAME for a client\'s id; it must',
  3: 'it has no room at the moment; try again later',
  4: 'wrong name or password: --username, --secrets, FEDJURY_PASSWORD',
  5: 'this login is not let in: --username, --secrets, FEDJURY_PASSWORD',
};

const now = () => `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`;

/** Say why there is no connection; `tls`: whether we encrypt. */
export function whyNot({ code, message }, { broker, host, tls }) {
  if (CONNACK[code]) return `the broker at ${broker} refuses us: ${CONNACK[code]}`;
  if (CERTIFICATE[code]) {
    return `the certificate of the broker at ${broker} cannot be trusted: ${CERTIFICATE[code](host)}`;
  }
  if (OURS[code]) return `no connection to the broker at ${broker} can be opened: ${OURS[code]}`;
  if (/ALERT/i.test(code ?? '') || /\balert\b/i.test(message)) {
    return `the broker at ${broker} does not take our certificate (${message.trim()}): is the one `
      + 'in --secrets of its authority, and neither revoked nor expired?';
  }
  if (tls && (code === 'ECONNRESET' || /^(ERR_SSL|EPROTO)/.test(code ?? '') || !code)) {
    return `what listens at ${broker} does not speak MQTT with TLS (without it, that is without `
      + '--ca and without a ca.crt in --secrets, brokers usually listen on port 1883)';
  }
  if (!code || code === 'ECONNRESET') {
    return `what listens at ${broker} closes the connection without a reason: it has its maximum `
      + 'number of clients (max_connections), expects TLS (give --ca or --secrets), or is not an MQTT broker';
  }
  return `no MQTT broker answers at ${broker} (${code}); ${START}`;
}
