// The table of targets: what is to be how much faster, or smaller, than what. Data only; bench/all.ts measures it.
import { keepMemory, type Side } from './trials.js'

/** Whom a row is measured against. */
export type PeerName = 'shipped' | 'kept' | 'onnxruntime' | 'monai'

export type Goal =
  /** Peer's seconds over ours, at least. */
  | { kind: 'faster'; than: PeerName; atLeast: number }
  /** Our memory above the base over the peer's, at most. */
  | { kind: 'memory'; of: PeerName; atMost: number }
  /** Our peak of the whole process, at most. */
  | { kind: 'peak'; atMostBytes: number }
  /** Our seconds, below. */
  | { kind: 'seconds'; below: number }
  /** A number of ours, below. */
  | { kind: 'number'; of: string; below: number; unit: string }

export interface Target {
  id: string
  /** One line of the table. */
  work: string
  ours: Side
  peers: Partial<Record<PeerName, Side>>
  /** The peers' numbers are those of this row, which has the same work for them. */
  peersOf?: string
  options: Record<string, unknown>
  /** Processes per side, in turn. */
  rounds: number
  goals: Goal[]
  /** Most memory that a process of either side may map; a side that fails is part of the result. */
  limitBytes?: number
  /** The processes of the two sides do not hold the same things: their memory says nothing. */
  memoryUnlike?: true
  /** Said below the table. */
  note?: string
}

const GIB = 2 ** 30
const ours = (script: string, options: Record<string, unknown> = {}): Side => ({
  ...{ name: 'mammo-retinanet', runtime: 'node', script, options },
})
const torchvision = (script: string): Pick<Target, 'peers'> => {
  const side: Side = { name: 'torchvision', runtime: 'python', script }
  return { peers: { shipped: side, kept: { ...side, name: 'torchvision, memory kept', env: keepMemory } } }
}
const faster = (than: PeerName, atLeast: number): Goal => ({ kind: 'faster', than, atLeast })
const memory = (of: PeerName, atMost: number): Goal => ({ kind: 'memory', of, atMost })

const patch = { height: 1024, width: 1024, batch: 1, warmup: 1, count: 1 }
const film = { height: 4096, width: 3328, batch: 1, warmup: 0, count: 1 }
const forwardSides = {
  peers: {
    ...torchvision('forward.py').peers,
    onnxruntime: { ...ours('infer', { precision: 'fp32' }), name: 'onnxruntime' },
  },
}

export const targets: Target[] = [
  {
    id: 'step-all-1024',
    work: 'training step 1024 x 1024, all layers, blocks up to C2 recomputed',
    ours: ours('train-step', { checkpoint: 'early' }),
    peers: {
      ...torchvision('train_step.py').peers,
      monai: { name: 'MONAI', runtime: 'python', script: 'monai_step.py' },
    },
    options: { ...patch, frozenStages: 0 },
    rounds: 3,
    goals: [faster('shipped', 1.6), memory('shipped', 0.5)],
    note: "MONAI's detector trains its batch norms, has group norms in its heads and no P7: the same size of network, not the same mathematics.",
  },
  {
    id: 'step-all-1024-kept',
    work: 'the same, nothing recomputed',
    ours: ours('train-step'),
    peers: {},
    peersOf: 'step-all-1024',
    options: { ...patch, frozenStages: 0 },
    rounds: 3,
    goals: [faster('shipped', 1.6)],
  },
  {
    id: 'step-frozen-1024',
    work: 'the same, frozen body',
    ours: ours('train-step'),
    ...torchvision('train_step.py'),
    options: { ...patch, frozenStages: 5 },
    rounds: 3,
    goals: [faster('shipped', 1.6)],
  },
  {
    id: 'phase-2',
    work: 'phase-2 step 4096 x 3328, frozen body, identical mathematics',
    ours: ours('train-step'),
    ...torchvision('train_step.py'),
    options: { ...film, frozenStages: 5 },
    rounds: 1,
    goals: [faster('shipped', 1.9), faster('kept', 1.5), memory('shipped', 0.5)],
  },
  {
    id: 'recipe',
    work: 'the same image, full-resolution recipe: breast crop (69 % of the pixels), P4 to P7',
    ours: ours('train-step', { width: 2304, levels: [4, 5, 6, 7] }),
    peers: {},
    peersOf: 'phase-2',
    options: { ...film, frozenStages: 5 },
    rounds: 3,
    goals: [faster('shipped', 5.5), memory('shipped', 1 / 3)],
  },
  {
    id: 'step-all-full',
    work: 'all layers at 4096 x 3328, blocks up to C2 recomputed',
    ours: ours('train-step', { checkpoint: 'early' }),
    peers: { shipped: { name: 'torchvision', runtime: 'python', script: 'train_step.py' } },
    options: { ...film, frozenStages: 0 },
    rounds: 1,
    limitBytes: 18 * GIB,
    goals: [{ kind: 'peak', atMostBytes: 18 * GIB }],
    note: 'All layers at full size: every process was given 18 GiB.',
  },
  {
    id: 'body-1024',
    work: 'body forward, frozen, 1024 x 1024',
    ours: ours('train-step', { part: 'backbone' }),
    ...torchvision('body.py'),
    options: { ...patch, frozenStages: 5 },
    rounds: 3,
    goals: [faster('shipped', 1.8)],
    memoryUnlike: true,
    note: 'Body forward: ours is timed within a training step.',
  },
  {
    id: 'detect-1024',
    work: '`detect` 1024 x 1024',
    ours: ours('forward'),
    ...forwardSides,
    options: { ...patch },
    rounds: 3,
    goals: [faster('onnxruntime', 0.95), faster('shipped', 1.6)],
  },
  {
    id: 'detect-full',
    work: '`detect` 4096 x 3328',
    ours: ours('forward'),
    ...forwardSides,
    options: { ...film },
    rounds: 1,
    goals: [faster('onnxruntime', 0.95), faster('shipped', 1.6)],
  },
  {
    id: 'match-4',
    work: 'matching, 2.55 M anchors x 4 boxes',
    ours: ours('matching'),
    ...torchvision('matching.py'),
    options: { ...film, boxes: 4 },
    rounds: 3,
    goals: [faster('shipped', 20), { kind: 'number', of: 'extraBytesPerAnchor', below: 32, unit: 'bytes per anchor' }],
  },
  {
    id: 'match-16',
    work: 'matching, 2.55 M anchors x 16 boxes',
    ours: ours('matching'),
    ...torchvision('matching.py'),
    options: { ...film, boxes: 16 },
    rounds: 3,
    goals: [faster('shipped', 40), { kind: 'number', of: 'extraBytesPerAnchor', below: 32, unit: 'bytes per anchor' }],
  },
  {
    id: 'focal',
    work: 'focal loss, forward + backward, 2.55 M x 1',
    ours: ours('focal-loss'),
    ...torchvision('focal_loss.py'),
    options: { anchors: 2553408, classes: 1 },
    rounds: 3,
    goals: [faster('shipped', 4)],
  },
  {
    id: 'nms',
    work: 'NMS, 20,000 scattered boxes',
    ours: ours('nms'),
    ...torchvision('nms.py'),
    options: { boxes: 20000 },
    rounds: 3,
    goals: [faster('shipped', 3)],
  },
  {
    id: 'anchors-second',
    work: 'anchors of a size, second use',
    ours: ours('anchors', { cached: true }),
    ...torchvision('anchors.py'),
    options: { ...film },
    rounds: 3,
    goals: [{ kind: 'seconds', below: 1e-4 }],
  },
  {
    id: 'anchors-first',
    work: 'anchors of a size, first use',
    ours: ours('anchors', { cached: false }),
    ...torchvision('anchors.py'),
    options: { ...film },
    rounds: 5,
    goals: [],
  },
  {
    id: 'optimizer',
    work: 'optimiser step, AdamW, 32 M parameters, with the norm of the gradients',
    ours: ours('train-step', { height: 128, width: 128, batch: 1, frozenStages: 0, part: 'optimizer', count: 10 }),
    ...torchvision('optimizer.py'),
    options: { optimizer: 'adamw' },
    rounds: 3,
    goals: [faster('shipped', 0.95)],
    memoryUnlike: true,
    note: "Optimiser: PyTorch's fused AdamW after `get_total_norm`; both sides give the gradients back.",
  },
  {
    id: 'data-wait',
    work: 'waiting for data, ResNet-18 on 1024-pixel patches of films, batch 2',
    ours: ours('data-wait', { folder: 'cbis-ddsm-fullres', ending: '.jpg' }),
    peers: {},
    options: {},
    rounds: 1,
    goals: [{ kind: 'number', of: 'waiting %', below: 3, unit: '% of a step' }],
  },
]
