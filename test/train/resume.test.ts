import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import type { Config } from '../../lib/config/schema.js'
import { ConfigError } from '../../lib/errors.js'
import { refuseOtherConfig, refuseOtherData } from '../../lib/train/resume.js'

const changed = (change: (config: Config) => void) => {
  const config = structuredClone(defaultConfig())
  change(config)
  return config
}
const problems = (now: Config): string[] => {
  try {
    refuseOtherConfig(defaultConfig(), now)
    return []
  } catch (error) {
    return (error as ConfigError).problems.map((p) => p.key)
  }
}

t.test('length, logging, places and reading may change', async (t) => {
  const free = changed((c) => {
    c.train.epochs = 99
    c.run.logEvery = 3
    c.run.timeHours = 1
    c.run.root = 'elsewhere'
    c.data.root = '/moved'
    c.data.readAhead = 9
    c.train.checkpointMinutes = 1
    c.export.scoreFloor = 0.5
  })
  t.strictSame(problems(free), [])
})

t.test('keys that change the result are refused, all at once', async (t) => {
  const now = changed((c) => {
    c.train.lr = 7
    c.loss.gamma = 5
    c.run.seed = 1
    c.anchors.scales = [1]
    c.train.schedule.kind = 'step'
  })
  t.strictSame(problems(now).sort(), ['anchors.scales', 'loss.gamma', 'run.seed', 'train.lr', 'train.schedule.kind'])
  t.throws(() => refuseOtherConfig(defaultConfig(), now), {
    exitCode: 2,
    message: /train\.lr was 0\.0001 in the run, now it is 7/,
  })
})

t.test('phases may get longer, nothing else of them may change', async (t) => {
  const phase = {
    ...{
      name: 'a',
      strategy: 'full' as const,
      epochs: 2,
      stepsPerEpoch: null,
      lr: null,
      batchSize: null,
      accumulate: null,
    },
    ...{ frozenStages: null, checkpointActivations: null, augment: null, schedule: null, earlyStop: null },
  }
  const saved = changed((c) => {
    c.train.phases = [phase]
  })
  const longer = changed((c) => {
    c.train.phases = [{ ...phase, epochs: 5 }]
  })
  const faster = changed((c) => {
    c.train.phases = [{ ...phase, lr: 1 }]
  })
  t.doesNotThrow(() => refuseOtherConfig(saved, longer))
  t.throws(() => refuseOtherConfig(saved, faster), ConfigError)
})

t.test('data is compared by content', async (t) => {
  const data = { adapter: 'coco', hash: 'h', cacheHash: 'c', splitHash: 's', fold: null }
  t.doesNotThrow(() => refuseOtherData(data, { ...data, hash: 'the sources were repacked' }, 'x'))
  t.throws(() => refuseOtherData(data, { ...data, cacheHash: 'd' }, 'x'), {
    code: 'ERR_MAMMO_MANIFEST',
    exitCode: 3,
    message: /images/,
  })
  t.throws(() => refuseOtherData(data, { ...data, splitHash: 'd' }, 'x'), { message: /split/ })
  t.throws(() => refuseOtherData(data, { ...data, fold: 1 }, 'x'), { message: /fold/ })
})
