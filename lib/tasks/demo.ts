// `demo`: the main job from end to end on the mammograms that travel with the package: prepare, train, evaluate, export, predict,
// report. It over-fits on purpose: 16 images of 8 patients, scored on themselves, show that the machine works and nothing else.
import { join } from 'node:path'
import { loadConfig } from '../config/load.js'
import { packageRoot } from '../package-root.js'
import { evaluate } from './evaluate.js'
import { exportOnnx } from './export.js'
import { predict } from './predict.js'
import { prepareDataset } from './prepare.js'
import { writeReport } from './report.js'
import { type DisplayOptions, train } from './train.js'

export interface DemoOptions {
  /** Folder of everything the demo writes. */
  out: string
  /** Epochs; default those of the preset. */
  epochs?: number
  threads: number
  display?: DisplayOptions
  log: (line: string) => void
  /** Obey signals while training. */
  handleSignals?: boolean
}

export interface DemoResult {
  run: string
  /** What ended the training early, as in TrainResult; the demo then stops there. null: nothing did. */
  stopped: string | null
  /** null when stopped, like `report`. */
  model: string | null
  report: string | null
  /** AP at IoU 0.5 on the training images. */
  ap50: number | null
  seconds: Record<string, number>
}

const IMAGES = join(packageRoot(), 'demo', 'cbis-ddsm')
/** File names of the bundled images: patient, side, view. */
const PATIENT_PATTERN = '(?<patient>\\d{5})_(?<laterality>LEFT|RIGHT)_(?<view>CC|MLO)'

/** The bundled mammograms, whole and all for training, prepared into `out`. */
export function prepareDemo(out: string) {
  return prepareDataset(IMAGES, {
    out,
    adapter: 'coco',
    crop: false,
    replace: true,
    reading: { patientPattern: PATIENT_PATTERN },
    split: { method: 'holdout', ratio: [1, 0, 0] },
  })
}

export async function demo(options: DemoOptions): Promise<DemoResult> {
  const { out, log, threads } = options
  const seconds: Record<string, number> = {}
  const step = async <T>(name: string, what: string, work: () => Promise<T>): Promise<T> => {
    log(`${name}: ${what}`)
    const start = performance.now()
    const result = await work()
    seconds[name] = (performance.now() - start) / 1000
    return result
  }

  const prepared = join(out, 'prepared')
  await step('prepare', '16 CBIS-DDSM mammograms of 8 patients, all of them for training', () => prepareDemo(prepared))
  const set: Record<string, unknown> = { 'data.root': prepared, 'run.root': join(out, 'runs'), 'run.threads': threads }
  if (options.epochs !== undefined) set['train.epochs'] = options.epochs
  const { config } = await loadConfig({ preset: 'demo', set })
  const result = await step('train', `${config.train.epochs} epochs, over-fitting on purpose`, () => {
    const { display, handleSignals } = options
    return train(config, {
      name: 'demo',
      ...(display === undefined ? {} : { display }),
      ...(handleSignals === undefined ? {} : { handleSignals }),
    }).done
  })
  if (result.status === 'interrupted') {
    return { run: result.directory, stopped: result.stopped, model: null, report: null, ap50: null, seconds }
  }
  const metrics = await step('evaluate', 'on the training images', () =>
    evaluate(result.directory, { split: 'train', bootstrap: 0, threads }),
  )
  const model = join(out, 'model.onnx')
  await step('export', model, () => exportOnnx(result.directory, { out: model, threads, log }))
  const pictures = join(out, 'predictions')
  await step('predict', `onnxruntime-node, pictures in ${pictures}`, () =>
    predict(model, [IMAGES], {
      out: pictures,
      outputs: ['json', 'coco', 'png'],
      annotations: join(IMAGES, 'annotations.json'),
      threshold: 0.3,
      pictureSide: 800,
    }),
  )
  const report = await step('report', join(out, 'report.html'), () =>
    writeReport(result.directory, {
      out: join(out, 'report.html'),
      title: 'mammo-retinanet demo',
      notice:
        'This detector was over-fitted on purpose: it was trained on these 16 images and is scored on the same images. The numbers show that preparation, ' +
        'training, evaluation, export and prediction work together. They say nothing about how well it would find masses in other mammograms.',
      pictures,
      facts: Object.entries(seconds).map(([name, s]) => [`time: ${name}`, `${s.toFixed(1)} s`]),
      commands: ['npm ci', 'npm run demo'],
    }),
  )
  return { run: result.directory, stopped: null, model, report, ap50: metrics.metrics.ap50, seconds }
}
