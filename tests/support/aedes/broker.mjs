// One node of an Aedes broker whose nodes share Redis: node broker.mjs PORT REDIS_PORT
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import emitter from 'mqemitter-redis'
import persistence from 'aedes-persistence-redis'

const [port, redis] = process.argv.slice(2).map(Number)
const there = { host: '127.0.0.1', port: redis }
const broker = await Aedes.createBroker({
  id: `node-${port}`,
  mq: emitter(there),
  persistence: persistence(there)
})
createServer(broker.handle).listen(port, '127.0.0.1')
