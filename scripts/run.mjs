// Runs a TypeScript file with Node itself: `node scripts/run.mjs FILE [arguments]`.
// Plain JavaScript, so that a Node that is too old can read it and say so, where a .ts file would only fail to load.
import module from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const oldestNode = 24
const [node, , file, ...rest] = process.argv

if (Number.parseInt(process.versions.node, 10) < oldestNode) {
  console.error(
    `This is Node ${process.versions.node}, but Node ${oldestNode} or newer is needed: run \`npm ci\`, which installs ` +
      'one into node_modules unless optional packages are left out.',
  )
  process.exit(1)
}
if (file === undefined) {
  console.error('Name the script to run: node scripts/run.mjs FILE [arguments]')
  process.exit(1)
}

// What was stripped and compiled once is read the next time: half of the time to start, and 15 MiB that would not be given
// back. In our own folder, since whoever can write there decides what runs.
module.enableCompileCache(join(import.meta.dirname, '../node_modules/.cache/node'))

const script = resolve(file)
process.argv = [node, script, ...rest]
await import(pathToFileURL(script).href)
