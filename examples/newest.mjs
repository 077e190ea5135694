// Which run to join where none was given: docs/protocol.md, "Which run?".

import mqtt from 'mqtt';

import { mayCome, whyNot } from './reasons.mjs';
import { Fatal, loginOf } from './settings.mjs';
import {
  BadMessage, PROTOCOL, ROOT, isName, oldManifestOf, otherProtocol, readPresence, readProtocol,
  readRound, topicOf,
} from './wire.mjs';

const SETTLE = 500; // ms for what is retained to arrive
const MOST = 1000; // runs that are remembered

/** What is known of the runs at a broker: name -> {online, since, over}. */
export class Runs {
  #known = new Map();

  #root;

  /** `root`: of the topics of the runs. */
  constructor(root = ROOT) {
    this.#root = root;
  }

  /** The topics that say which runs there are. */
  get topics() {
    const ours = ['aggregator', 'round'].map((part) => topicOf(this.#root, '+', part));
    return this.#root === ROOT ? [...ours, oldManifestOf('+')] : ours;
  }

  /** Take in a message on one of these topics; what does not fit changes nothing. */
  hear(topic, payload) {
    const levels = this.#root.split('/').length;
    const [run, kind, more] = topic.split('/').slice(levels);
    const known = this.#known.get(run) ?? (this.#known.size < MOST ? {} : undefined);
    if (!isName(run) || !known || more !== undefined) return;
    try {
      if (kind === 'aggregator') {
        const { online, since } = payload.length ? readPresence(payload) : {};
        Object.assign(known, { online, since });
      } else if (kind === 'manifest') {
        known.protocol = payload.length ? readProtocol(payload) : undefined;
      } else if (kind === 'round') {
        known.over = payload.length > 0 && readRound(payload).phase === 'done';
      } else return;
    } catch (error) {
      if (!(error instanceof BadMessage)) throw error;
      return;
    }
    this.#known.set(run, known);
  }

  /** The protocol of a run that speaks another than ours, if there is one. */
  other() {
    return [...this.#known.values()].map((run) => run.protocol).find((p) => p && p !== PROTOCOL);
  }

  /** The run to join, or undefined: those whose aggregator is there first, then the latest. */
  newest() {
    const able = [...this.#known].filter(([, run]) => run.since !== undefined && !run.over);
    able.sort(([, a], [, b]) => Number(b.online) - Number(a.online) || b.since - a.since);
    return able[0]?.[0];
  }
}

/** Wait for a run that can be joined; resolves to its name, rejects with Fatal. */
export function newestRun(options, say) {
  const { broker, host, port } = options;
  const runs = new Runs(options.root);
  const told = new Set();
  const once = (text) => {
    if (!told.has(text)) say(text);
    told.add(text);
  };
  const client = mqtt.connect({
    ...loginOf(options), host, port, protocolVersion: 4, connectTimeout: 10_000, reconnectPeriod: 1000,
  });
  return new Promise((resolve, reject) => {
    const look = () => {
      const found = runs.newest();
      if (found) resolve(found);
      else if (runs.other()) once(`waiting for a run at ${broker}: ${otherProtocol(runs.other())}`);
      else once(`waiting for a run at ${broker}: no aggregator has begun one that is not over`);
    };
    let settled = false;
    let there = false;
    let away = false;
    const failed = (error) => {
      const why = whyNot(error, { ...options, tls: client.options.protocol === 'mqtts' });
      away ||= mayCome(error);
      if (mayCome(error)) once(`${why}; waiting until one does (Ctrl-C ends)`);
      else if (!there) reject(new Fatal(why));
    };
    client
      .on('connect', () => {
        there = true;
        client.subscribe(runs.topics, { qos: 1 });
        setTimeout(() => { settled = true; look(); }, SETTLE);
      })
      .on('message', (topic, payload) => {
        runs.hear(topic, payload);
        if (settled) look();
      })
      .on('error', failed)
      .on('close', () => { if (!there && !away) failed(new Error('it closed the connection')); });
  }).finally(() => client.endAsync(true));
}
