import { join } from 'node:path'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import type { Config } from '../../lib/config/schema.js'
import { train } from '../../lib/tasks/train.js'

const configured = (change: (config: Config) => void) => {
  const config = structuredClone(defaultConfig())
  config.run.root = join(t.testdirName, 'runs')
  change(config)
  return config
}

t.test('no data, no run to resume', async (t) => {
  await t.rejects(train(configured(() => undefined)).done, { code: 'ERR_MAMMO_CONFIG', message: /data\.root/ })
  await t.rejects(
    train(
      configured(() => undefined),
      { resume: '/nowhere' },
    ).done,
    { code: 'ERR_MAMMO_ARGUMENT' },
  )
})

t.test('events of a run that fails end', async (t) => {
  const run = train(configured(() => undefined))
  const events: unknown[] = []
  const reading = (async () => {
    for await (const event of run.events()) events.push(event)
  })()
  await t.rejects(run.done)
  await reading
  t.strictSame(events, [])
})
