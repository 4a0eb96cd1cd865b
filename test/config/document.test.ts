// Configuration texts: what is printed can be read back.
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { descriptionOf, resolvedYaml, showConfig, starterFile } from '../../lib/config/document.js'
import { leaves, loadConfig } from '../../lib/config/load.js'

async function readBack(text: string) {
  const file = join(await mkdtemp(join(tmpdir(), 'mammo-config-')), 'c.yaml')
  await writeFile(file, text)
  return (await loadConfig({ file })).config
}

t.test('show and the resolved file read back to the same configuration', async (t) => {
  const loaded = await loadConfig({ preset: 'inbreast-two-stage', set: { 'loss.gamma': 4 } })
  t.strictSame(await readBack(showConfig(loaded, false)), loaded.config)
  t.strictSame(await readBack(showConfig(loaded, true)), loaded.config)
  t.strictSame(await readBack(resolvedYaml(loaded)), loaded.config)
  t.match(showConfig(loaded, true), /gamma: 4 +# --set/)
  t.notMatch(showConfig(loaded, true), 'emaMomentum')
})

t.test('the starter file is valid as it is and when every line is uncommented', async (t) => {
  const text = starterFile('smoke')
  const smoke = await loadConfig({ preset: 'smoke' })
  t.strictSame(await readBack(text), smoke.config)
  const lines = text
    .split('\n')
    .slice(4)
    .map((line) => line.replace(/^# /, ''))
  t.strictSame(await readBack(lines.join('\n')), (await loadConfig()).config)
})

t.test('every key has a meaning', async (t) => {
  const { config } = await loadConfig()
  const silent = leaves(config as never).filter((key) => descriptionOf(key) === '')
  t.strictSame(silent, [])
})
