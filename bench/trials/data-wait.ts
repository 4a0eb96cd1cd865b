// How long a real training step waits for its input: patches are read from a prepared folder ahead of the step, as in training.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { native, openSession } from '../../lib/binding/session.js'
import { padMultiple, sessionConfig } from '../../lib/config/detector.js'
import { loadConfig } from '../../lib/config/load.js'
import { loadBatches } from '../../lib/data/loader.js'
import { openPrepared, openReader, samplerImages } from '../../lib/data/prepared.js'
import { createSampler } from '../../lib/data/sampler.js'
import type { Measurement } from '../trials.js'
import { type DataSetting, prepare, readRecords } from './data.js'
import { residentBytes } from './model.js'

const BATCH = 2

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const setting = options as unknown as DataSetting
  const out = await mkdtemp(join(tmpdir(), 'mammo-bench-'))
  try {
    const { root, records } = await readRecords(setting)
    await prepare(root, records, join(out, 'prepared'), setting.threads)
    const set = await openPrepared(join(out, 'prepared'))
    const { config } = await loadConfig({
      preset: 'inbreast-two-stage',
      set: { 'model.backbone': 'resnet18', 'data.patch.size': 1024 },
    })
    const view = { classes: config.data.classes, normalise: 'dataset' as const, statistics: set.header.statistics[0]! }
    const images = samplerImages(set, set.split.folds[0]!.train, view)
    const rules = { seed: 0, multiple: padMultiple(config), data: config.data, augment: config.augment }
    const sampler = createSampler(images, { strategy: 'crops', ...rules })
    await native().configure(setting.threads)
    const session = await openSession(sessionConfig(config))
    const reader = openReader(set)
    const planned = sampler.batches(0, BATCH, true).slice(0, 1 + (setting.count ?? 5))
    const loader = loadBatches(sampler, planned, reader, { epoch: 0, ahead: config.data.readAhead })
    const baseBytes = residentBytes('VmRSS')
    const step = { lr: 1e-4, weightDecay: 0.05, clipNorm: 1, clipNormPerTensor: null, clipValue: null }
    const seconds: number[] = []
    for await (const { batch, targets } of loader) {
      const started = performance.now()
      await session.trainStep(batch, targets, { ...step, lossScale: 1, update: true, skipNonFinite: false })
      seconds.push((performance.now() - started) / 1000)
    }
    const { share, waitSeconds, firstSeconds, bytes } = loader.times()
    await reader.close()
    await session.dispose()
    const extra = {
      'waiting %': 100 * share,
      'waited ms': 1000 * waitSeconds,
      'first batch ms': 1000 * firstSeconds,
      'patches/s': (BATCH * seconds.length) / seconds.reduce((sum, s) => sum + s, 0),
      'MiB read': bytes / 2 ** 20,
    }
    return { seconds: seconds.slice(1), peakBytes: residentBytes('VmHWM'), baseBytes, extra }
  } finally {
    await rm(out, { recursive: true })
  }
}
