// npm run example NAME: runs one of the examples from the build.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

const folder = join(import.meta.dirname, '../build/examples')
const [name = ''] = process.argv.slice(2)
const file = join(folder, `${name}.js`)
if (name === '' || !existsSync(file)) {
  const names = existsSync(folder) ? readdirSync(folder).filter(entry => entry.endsWith('.js')) : []
  console.error(
    `Usage: npm run example NAME, where NAME is one of:\n${names.map(entry => `  ${entry.slice(0, -3)}`).join('\n')}`,
  )
  process.exit(2)
}
await import(file)
