// What the command line says: who the agent is, where its broker is, and how it logs in there.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { ROOT, isName, isRoot } from './wire.mjs';

export const HELP = `usage: node examples/agent.mjs --data FILE.csv [options]

Join a federation as an honest agent that holds the data of one CSV file: in each line a label,
then the pixels row by row, 0 to 255. A first line with names is skipped.

  --data FILE           the agent's own data, which never leave it
  --broker HOST:PORT    address of the broker (default: 127.0.0.1:1883)
  --run NAME            name of the run (default: the newest)
  --root TOPIC          topic below which the runs are (default: fl/v2)
  --name NAME           the agent's name, which no other has (default: node-1)
  --username NAME       login at the broker (default, with a password: the agent's name)
  --password SECRET     better: environment FEDJURY_PASSWORD
  --secrets DIR         folder made by fedjury enroll
  --state FILE          where it remembers whose updates were summed with its own (made if it is
                        not there; without, it forgets that when it ends)
  --ca FILE             TLS: PEM file of the broker's certificate authority, or 'system'
  --help                show this and exit

examples:
  node examples/agent.mjs --run lab --data my.csv
  node examples/agent.mjs --broker broker.local:1883 --run lab --name node-1 --data my.csv
  FEDJURY_PASSWORD=... node examples/agent.mjs --name node-1 --data my.csv --ca ca.crt
  node examples/agent.mjs --broker broker.local:8883 --name node-1 --data my.csv --secrets secrets
`;

const OPTIONS = {
  data: { type: 'string' },
  broker: { type: 'string', default: '127.0.0.1:1883' },
  run: { type: 'string' },
  root: { type: 'string', default: ROOT },
  name: { type: 'string', default: 'node-1' },
  username: { type: 'string' },
  password: { type: 'string', default: process.env.FEDJURY_PASSWORD },
  secrets: { type: 'string' },
  ca: { type: 'string' },
  state: { type: 'string' },
  help: { type: 'boolean', default: false },
};

/** What one sentence tells people before the program ends. */
export class Fatal extends Error {}

/** Read the command line; throws Fatal. */
export function settings() {
  let values;
  try {
    ({ values } = parseArgs({ options: OPTIONS }));
  } catch (error) {
    throw new Fatal(`${error.message.split('. ')[0]}; see --help`);
  }
  if (values.help) return values;
  if (!values.data) throw new Fatal('say with --data FILE.csv what it learns from; see --help');
  for (const key of ['run', 'name']) {
    if (values[key] !== undefined && !isName(values[key])) throw new Fatal(`--${key} is 1 to 64 of A-Z a-z 0-9 _ -`);
  }
  if (!isRoot(values.root)) {
    throw new Fatal('--root is 1 to 100 characters without blanks, quotes, + # % and empty levels');
  }
  const [, host, port] = /^\[?(.+?)\]?:(\d{1,5})$/.exec(values.broker) ?? [];
  if (!host || port < 1 || port > 65535) {
    throw new Fatal('--broker is HOST:PORT, like 127.0.0.1:1883');
  }
  return { ...values, host, port: Number(port) };
}

function contents(file) {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Fatal(`cannot read ${file} (${error.code})`);
  }
}

/** What the folder of secrets holds for an agent, each part undefined if it is not there. */
function fromFolder(secrets, name) {
  const folder = join(secrets, 'agents');
  const part = (called) => {
    const file = join(folder, called);
    return existsSync(file) ? contents(file) : undefined;
  };
  const password = part(`${name}.password`)?.toString().trim();
  const own = { ca: part('ca.crt'), cert: part(`${name}.crt`), key: part(`${name}.key`), password };
  if (!password && !own.key) throw new Fatal(`${folder} holds no secret of ${name}`);
  return own;
}

/** How an agent logs in and whom it believes to be the broker, in the words of MQTT.js. */
export function loginOf({ name, username, password, secrets, ca }) {
  const own = secrets ? fromFolder(secrets, name) : {};
  if (ca && ca !== 'system') own.ca = contents(ca);
  own.password = password ?? own.password;
  own.username = username ?? (own.password ? name : undefined);
  return { ...own, protocol: own.ca || ca ? 'mqtts' : 'mqtt' };
}
