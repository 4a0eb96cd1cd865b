// The table of trials: what is measured, in which variants, against whom.
export interface Measurement {
  seconds: number[]
  /** Peak resident memory of the process. */
  peakBytes: number
  /** Resident memory before the measured work. */
  baseBytes: number
  extra: Record<string, unknown>
}

export interface Side {
  name: string
  runtime: 'node' | 'python'
  /** File in bench/trials (node) or bench/peers (python). */
  script: string
  env?: Record<string, string>
  /** Added to those of the variant. */
  options?: Record<string, unknown>
}

export interface Trial {
  about: string
  variants: Record<string, Record<string, unknown>>
  /** Ours first. */
  sides: Side[]
}

// glibc keeps freed memory with these settings: torchvision "tuned", printed beside "as shipped".
export const keepMemory = {
  MALLOC_MMAP_THRESHOLD_: '1073741824',
  MALLOC_TRIM_THRESHOLD_: '17179869184',
  MALLOC_TOP_PAD_: '268435456',
}

const ours = (script: string): Side => ({ name: 'mammo-retinanet', runtime: 'node', script })
const torchvision = (script: string): Side => ({ name: 'torchvision', runtime: 'python', script })
const torchvisionKept = (script: string): Side => ({
  name: 'torchvision, memory kept',
  runtime: 'python',
  script,
  env: keepMemory,
})

/** An exported model in onnxruntime-node; the first word of the name is its precision. */
const inferOurs = (name: string, options: Record<string, unknown>): Side => ({
  ...ours('infer'),
  name: `mammo-retinanet ${name}`,
  options: { precision: name.split(',')[0], ...options },
})

const full = { height: 4096, width: 3328 }

/** Settings of the stored anchor searches. */
const anchorSearches: readonly [string, number, number, string, boolean][] = [
  ['synthetic300', 3, 3, 'focal', false],
  ['synthetic300', 5, 3, 'focal', false],
  ['synthetic300', 3, 3, 'avg', false],
  ['synthetic300', 3, 3, 'ce', false],
  ['synthetic300', 1, 2, 'focal', false],
  ['cbis400', 3, 3, 'focal', false],
  ['cbis400', 5, 3, 'focal', false],
  ['cbis400', 3, 3, 'avg', false],
  ['cbis400', 3, 3, 'ce', false],
  ['cbis400', 1, 2, 'focal', false],
  ['cbis1318', 3, 3, 'focal', false],
  ['cbis1318', 5, 3, 'focal', false],
  ['synthetic40_320px', 3, 2, 'focal', true],
]

export const trials: Record<string, Trial> = {
  anchors: {
    about: 'all anchors of a full-resolution canvas, first use and cached',
    variants: { 'first use': { ...full, cached: false }, 'second use': { ...full, cached: true } },
    sides: [ours('anchors'), torchvision('anchors.py')],
  },
  matching: {
    about: 'assign 2.55 million anchors to boxes',
    variants: { '4 boxes': { ...full, boxes: 4 }, '16 boxes': { ...full, boxes: 16 } },
    sides: [ours('matching'), torchvision('matching.py')],
  },
  'focal-loss': {
    about: 'focal loss, forward and gradient',
    variants: { '2.55 M x 1': { anchors: 2553408, classes: 1 }, '638 k x 2': { anchors: 638352, classes: 2 } },
    sides: [ours('focal-loss'), torchvision('focal_loss.py')],
  },
  nms: {
    about: 'non-maximum suppression of scattered boxes',
    variants: { '20,000 boxes': { boxes: 20000 } },
    sides: [ours('nms'), torchvision('nms.py')],
  },
  forward: {
    about: 'network and detections of one image, ResNet-50, no gradients',
    variants: { '1024x1024': { height: 1024, width: 1024 } },
    sides: [ours('forward'), torchvision('forward.py'), torchvisionKept('forward.py')],
  },
  'train-step': {
    about: 'one update, ResNet-50 with frozen batch norm, all layers trained, two lesions per image, L1 box loss, SGD',
    variants: {
      '1024x1024, batch 1': { height: 1024, width: 1024, batch: 1, frozenStages: 0 },
      '1024x1024, batch 2': { height: 1024, width: 1024, batch: 2, frozenStages: 0 },
      '1024x1024, batch 1, frozen body': { height: 1024, width: 1024, batch: 1, frozenStages: 5 },
    },
    sides: [ours('train-step'), torchvision('train_step.py'), torchvisionKept('train_step.py')],
  },
  data: {
    about: 'prepare images: decode, find the breast, crop, statistics, hashes, uint16 cache on the disk',
    variants: {
      'full-resolution films': { folder: 'cbis-ddsm-fullres', ending: '.jpg', repeat: 4 },
      'DICOM mammograms': { folder: 'dicom/mg', ending: '.dcm', repeat: 4 },
    },
    sides: [
      ours('data'),
      {
        name: 'pydicom, Pillow, numpy, SciPy: the same work',
        runtime: 'python',
        script: 'data.py',
        env: { MAMMO_PEER_WORK: 'all' },
      },
      { name: 'pydicom, Pillow, numpy: decode, statistics, file', runtime: 'python', script: 'data.py' },
    ],
  },
  'data-wait': {
    about:
      'share of the time that a training step waits for its patches: ResNet-18, 1024-pixel patches of films, batch 2',
    variants: { 'films, batch 2': { folder: 'cbis-ddsm-fullres', ending: '.jpg' } },
    sides: [ours('data-wait')],
  },
  infer: {
    about:
      'one image to detections with an exported model, ResNet-50, P3 to P7, against torchvision in evaluation mode and torchvision exported to ONNX',
    variants: {
      '1024x1024': { height: 1024, width: 1024 },
      '4096x3328': { ...full, warmup: 0, count: 1 },
    },
    sides: [
      inferOurs('fp32', {}),
      inferOurs('fp32, two steps', { twoStep: true }),
      inferOurs('fp32, two steps, 1,000 scattered candidates per level', { twoStep: true, scoreFloor: 0.001 }),
      inferOurs('fp32, this size only', { fixed: true }),
      inferOurs('fp32, two steps, this size only', { twoStep: true, fixed: true }),
      inferOurs('int8', {}),
      inferOurs('int8, two steps', { twoStep: true }),
      { ...torchvision('forward.py'), name: 'torchvision eval' },
      { name: 'torchvision ONNX', runtime: 'python', script: 'forward_onnx.py' },
    ],
  },
  'infer-films': {
    about: 'two real films, found breast only (ours) or the whole film padded to the stride (torchvision)',
    variants: { 'films of CBIS-DDSM': { ...full, films: true, warmup: 0 } },
    sides: [
      inferOurs('fp32', {}),
      inferOurs('fp32, two steps', { twoStep: true }),
      inferOurs('int8, two steps', { twoStep: true }),
      inferOurs('fp32, two steps, P4 to P7', { twoStep: true, levels: [4, 5, 6, 7] }),
      inferOurs('int8, two steps, P4 to P7', { twoStep: true, levels: [4, 5, 6, 7] }),
      { ...torchvision('forward.py'), name: 'torchvision eval' },
    ],
  },
  limits: {
    about: "delay of the caller's event loop while full-resolution images are predicted; p99 below 50 ms",
    variants: {
      '4096x3328, thread': { ...full, isolation: 'thread' },
      '4096x3328, process': { ...full, isolation: 'process' },
    },
    sides: [ours('limits')],
  },
  boundary: {
    about: 'cost of handing a full-resolution window to the engine (copy, upload, normalise) and back',
    variants: { '4096x3328': full },
    sides: [ours('boundary')],
  },
  evaluate: {
    about:
      'COCO evaluation of 5,000 images x 100 detections, two lesions each, in one process; the numbers must be equal',
    variants: {
      '1 class': { images: 5000, detections: 100, lesions: 2, classes: 1 },
      '10 classes': { images: 5000, detections: 100, lesions: 7, classes: 10 },
    },
    sides: [ours('evaluate'), { name: 'pycocotools', runtime: 'python', script: 'evaluate.py' }],
  },
  'anchors-optimize': {
    about:
      'ten anchor searches with as many seeds on each stored box set, from the first of a process on: mean processor seconds',
    variants: Object.fromEntries(
      anchorSearches.map(([boxes, ratios, scales, objective, grid]) => [
        `${boxes}, ${ratios} ratios, ${scales} scales, ${objective}${grid ? ', grid' : ''}`,
        { boxes, ratios, scales, objective, grid, count: grid ? 3 : 10 },
      ]),
    ),
    sides: [
      ours('anchors-optimize'),
      { name: 'SciPy differential_evolution, NumPy', runtime: 'python', script: 'anchors_optimize.py' },
    ],
  },
}
