// Runs SDKs as a test says. Each line of standard input is a JSON string, the body of an async function; each line of standard output is its result, or
// the error that it threw. What SDKs log goes to standard error, and into `logged` for the test to look at.
import { createInterface } from 'node:readline'
import { format } from 'node:util'

globalThis.logged = []
for (const level of ['debug', 'log', 'info', 'warn', 'error']) {
  console[level] = (...args) => {
    const line = `${level}: ${format(...args)}`
    globalThis.logged.push(line)
    process.stderr.write(line + '\n')
  }
}

globalThis.load = (name) => import(name)
const AsyncFunction = (async () => {}).constructor

for await (const line of createInterface({ input: process.stdin })) {
  let reply
  try {
    reply = { result: await new AsyncFunction(JSON.parse(line))() }
  } catch (error) {
    reply = { error: String(error?.stack ?? error) }
  }
  process.stdout.write(JSON.stringify(reply) + '\n')
}
process.exit(0)
