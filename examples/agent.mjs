#!/usr/bin/env node
// An honest agent of fedjury in Node.js, written from docs/protocol.md alone. See README.md here.

import { setImmediate } from 'node:timers/promises';

import mqtt from 'mqtt';

import { readCsv } from './data.mjs';
import { Member } from './member.mjs';
import { Unfit } from './network.mjs';
import { newestRun } from './newest.mjs';
import { Remembered } from './opened.mjs';
import { mayCome, whyNot } from './reasons.mjs';
import { Fatal, HELP, loginOf, settings } from './settings.mjs';
import {
  BadMessage, PROTOCOL, ROOT, oldManifestOf, otherProtocol, presence, readProtocol, topicOf,
} from './wire.mjs';

const SLICE = 20; // ms of work between two looks at the network and at Ctrl-C
const GOODBYE = 2000; // ms that a goodbye may take
const PATIENCE = 3000; // ms without a manifest after which people are told what is waited for

const say = (text) => console.log(text);

/** A connection whose last will says that the agent is offline. */
function connect(options) {
  const { host, port, root, run, name } = options;
  return mqtt.connect({
    ...loginOf(options),
    host,
    port,
    clientId: root === ROOT ? `${run}.${name}` : `${root}/${run}.${name}`,
    protocolVersion: 4,
    connectTimeout: 10_000,
    reconnectPeriod: 1000,
    resubscribe: false, // we do, as what we want may have changed
    will: { topic: topicOf(root, run, `agent/${name}`), payload: presence(false), qos: 1, retain: true },
  });
}

/** The agent at its broker: subscribes to what the member wants, does and publishes what is due. */
class Agent {
  constructor(options, data) {
    this.topic = (part) => topicOf(options.root, options.run, part);
    this.options = options;
    this.member = new Member(options.name, data, say, options.run, new Remembered(options.state));
    this.ignored = new Set();
    this.subscribed = new Set();
    this.left = new Promise((resolve, reject) => {
      Object.assign(this, { leave: resolve, fail: reject });
    });
    this.client = connect(options)
      .on('connect', () => this.#connected())
      .on('close', () => this.#closed())
      .on('error', (error) => this.#failed(error))
      .on('message', (topic, payload) => this.#hear(topic, payload));
    setTimeout(() => this.#patient(), PATIENCE).unref();
  }

  #connected() {
    const { broker, name, run } = this.options;
    say(this.online === undefined ? `${name} joins run '${run}' at ${broker}` : 'connected again');
    this.online = true;
    this.subscribed.clear();
    this.#subscribe();
    this.#announce(true);
  }

  #patient() {
    if (!this.member.network) say('waiting for an aggregator: this run has no manifest yet');
  }

  #announce(online, done) {
    const topic = this.topic(`agent/${this.options.name}`);
    this.client.publish(topic, presence(online), { qos: 1, retain: true }, done);
  }

  #closed() {
    if (this.online === undefined && !this.away) {
      this.#failed(new Error('it closed the connection'));
    }
    if (this.online) say('the connection is lost; trying to connect again');
    this.online = false;
  }

  #failed(error) {
    const why = whyNot(error, { ...this.options, tls: this.client?.options.protocol === 'mqtts' });
    const never = this.online === undefined && !mayCome(error);
    if (never || [2, 4, 5].includes(error.code)) this.fail(new Fatal(why));
    else if (this.online === undefined) this.#wait(why);
    else if (why !== this.told) say(`cannot connect again so far: ${why}`);
    this.told = why;
  }

  /** Say once that there is no broker yet: a device may start before its network does. */
  #wait(why) {
    if (!this.away) say(`${why}; waiting until one does (Ctrl-C ends)`);
    this.away = true;
  }

  /** Bring subscriptions to what the member wants. */
  #subscribe() {
    const wanted = new Set(this.member.wanted().map(this.topic));
    const { root, run } = this.options;
    if (!this.member.network && root === ROOT) wanted.add(oldManifestOf(run));
    const gone = [...this.subscribed].filter((topic) => !wanted.has(topic));
    const fresh = [...wanted].filter((topic) => !this.subscribed.has(topic));
    if (gone.length) this.client.unsubscribe(gone);
    if (fresh.length) this.client.subscribe(fresh, { qos: 1 });
    this.subscribed = wanted;
  }

  #hear(topic, payload) {
    const part = topic.slice(this.topic('').length);
    try {
      if (topic === oldManifestOf(this.options.run)) return this.#hearOld(payload);
      this.member.hear(part, payload);
    } catch (error) {
      if (error instanceof Unfit && !this.begun) return this.fail(error);
      if (!(error instanceof Unfit || error instanceof BadMessage)) throw error;
      if (error instanceof Unfit) say(`${error.message}; waiting until the run has a manifest that fits`);
      else this.#ignore(part.split('/')[0], error);
    }
    this.begun ||= Boolean(this.member.network);
    if (this.member.done) return this.leave('the run is done');
    this.#subscribe();
    this.#publish(this.member.replies());
    return this.#work();
  }

  #publish(answers) {
    for (const { part, payload } of answers) {
      this.client.publish(this.topic(part), Buffer.from(payload), { qos: 1 });
    }
  }

  /** Say once that the aggregator is of another version, and wait for one that is not. */
  #hearOld(payload) {
    const theirs = payload.length ? readProtocol(payload) : PROTOCOL;
    if (theirs === PROTOCOL || this.member.network || this.ignored.has('protocol')) return;
    this.ignored.add('protocol');
    say(otherProtocol(theirs));
  }

  /** Say why a message is ignored, once for each kind of message and reason. */
  #ignore(kind, { message, reason }) {
    const known = `${kind} ${reason}`;
    if (!this.ignored.has(known)) say(`ignored what came on ${kind}: ${message}`);
    this.ignored.add(known);
  }

  /** Do all that is due, in slices, so that the connection lives and Ctrl-C is heard meanwhile. */
  async #work() {
    if (this.busy) return;
    this.busy = true;
    for (let due = this.member.due(); due; due = this.member.due()) {
      const answer = await this.#drive(this.member.work(), due);
      if (answer) this.#publish([answer, ...this.member.replies()]);
      else say('given up unfinished: the aggregator asks for something else by now');
      this.#subscribe();
    }
    this.busy = false;
  }

  /** Drive work to its end, or until it is no longer due; returns what to publish, if anything. */
  async #drive(steps, due) {
    for (let pause = Date.now() + SLICE; ;) {
      const { done, value } = steps.next();
      if (done) return value;
      if (Date.now() < pause) continue;
      await setImmediate();
      if (this.member.due() !== due) return null;
      pause = Date.now() + SLICE;
    }
  }

  /** Say goodbye, if there is a connection, and disconnect. */
  async end() {
    const late = new Promise((resolve) => { setTimeout(resolve, GOODBYE).unref(); });
    if (this.client.connected) {
      await Promise.race([late, new Promise((resolve) => { this.#announce(false, resolve); })]);
    }
    this.client.removeAllListeners('close');
    await Promise.race([late, this.client.endAsync(!this.client.connected)]);
  }
}

/** Run the program; returns its exit code. */
async function main() {
  let agent;
  try {
    const options = settings();
    if (options.help) {
      process.stdout.write(HELP);
      return 0;
    }
    const data = readCsv(options.data, say);
    options.run ??= await newestRun(options, say);
    agent = new Agent(options, data);
    process.once('SIGINT', () => agent.leave(130));
    process.once('SIGTERM', () => agent.leave(143));
    const how = await agent.left;
    say(typeof how === 'string' ? `${how}; goodbye` : 'stopping: the agent says goodbye');
    await agent.end();
    return typeof how === 'string' ? 0 : how;
  } catch (error) {
    if (!(error instanceof Fatal || error instanceof Unfit)) throw error;
    console.error(`error: ${error.message}`);
    await agent?.end();
    return 2;
  }
}

process.exit(await main());
