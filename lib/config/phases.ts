// The phases of a run, each with every inherited value filled in. A run without `train.phases` has one phase.
import type { Recompute } from '../binding/types.js'
import type { Config, ScheduleConfig } from './schema.js'

export interface Phase {
  name: string
  strategy: 'resized' | 'full' | 'crops'
  epochs: number
  stepsPerEpoch: number | null
  /** Peak rate after scaling to the effective batch. */
  lr: number
  batchSize: number
  accumulate: number
  frozenStages: number
  checkpointActivations: Recompute
  augment: boolean
  schedule: ScheduleConfig
  earlyStop: { patience: number | null; minDelta: number }
}

export function phasesOf(config: Config): Phase[] {
  const { train, data, model } = config
  const listed = train.phases ?? [
    {
      name: train.strategy,
      strategy: train.strategy as Phase['strategy'],
      epochs: train.epochs,
      stepsPerEpoch: train.stepsPerEpoch,
    },
  ]
  return listed.map((phase) => {
    const given = {
      lr: null,
      batchSize: null,
      accumulate: null,
      frozenStages: null,
      checkpointActivations: null,
      augment: null,
      schedule: null,
      earlyStop: null,
      ...phase,
    }
    const batchSize = given.batchSize ?? data.batchSize
    const accumulate = given.accumulate ?? train.accumulate
    const scale = train.lrBatch === null ? 1 : (batchSize * accumulate) / train.lrBatch
    return {
      name: phase.name,
      strategy: phase.strategy,
      epochs: phase.epochs,
      stepsPerEpoch: phase.stepsPerEpoch,
      lr: (given.lr ?? train.lr) * scale,
      batchSize,
      accumulate,
      frozenStages: given.frozenStages ?? model.frozenStages,
      checkpointActivations: given.checkpointActivations ?? model.checkpointActivations,
      augment: given.augment ?? config.augment.enabled,
      schedule: given.schedule ?? train.schedule,
      earlyStop: given.earlyStop ?? train.earlyStop,
    }
  })
}
