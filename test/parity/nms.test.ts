// Suppression against torchvision and TensorFlow (equal indices), selection against keras-retinanet's filter.
import t from 'tap'
import { nms, selectDetections } from '../../lib/geometry/nms.js'
import { oracleJson, oracleTensors } from '../oracles.js'

interface Torchvision {
  cases: { name: string; count: number; results: Record<string, unknown>[] }[]
}

t.test('nms and batched_nms of torchvision', async (t) => {
  const oracle = await oracleJson<Torchvision>(t, 'nms_torchvision.json')
  if (oracle === undefined) return
  const tensors = await oracleTensors('nms_torchvision.safetensors')
  for (const { name, results } of oracle.cases)
    for (const result of results) {
      const [boxes, scores, classes] = ['boxes', 'scores', 'classes'].map(
        (part) => tensors.get(`${name}.${part}`)!.data,
      )
      const threshold = result['iou_threshold'] as number
      t.same(nms(boxes!, scores!, threshold), result['kept'], `${name} at ${threshold}`)
      const batched = result['batched']
      if (batched !== undefined)
        t.same(nms(boxes!, scores!, threshold, classes!), batched, `${name} by class at ${threshold}`)
    }
})

interface Tensorflow {
  nms: { name: string; results: { iou_threshold: number; max_output_size: number; kept: number[] }[] }[]
  filter_detections: {
    name: string
    settings: {
      nms: boolean
      class_specific_filter: boolean
      nms_threshold: number
      score_threshold: number
      max_detections: number
    }
    boxes: number[][] | null
    classification: number[][] | null
    kept_index: number[]
    kept_label: number[]
    kept_score: number[]
  }[]
}

t.test('non_max_suppression of TensorFlow, filter_detections of keras-retinanet', async (t) => {
  const oracle = await oracleJson<Tensorflow>(t, 'nms_tensorflow.json')
  if (oracle === undefined) return
  const tensors = await oracleTensors('nms_torchvision.safetensors')
  for (const { name, results } of oracle.nms)
    for (const { iou_threshold, max_output_size, kept } of results) {
      const [boxes, scores] = ['boxes', 'scores'].map((part) => tensors.get(`${name}.${part}`)!.data)
      t.same(nms(boxes!, scores!, iou_threshold).slice(0, max_output_size), kept, `${name} at ${iou_threshold}`)
    }
  let boxes: number[][] = []
  let scores: number[][] = []
  for (const c of oracle.filter_detections) {
    boxes = c.boxes ?? boxes
    scores = c.classification ?? scores
    const { settings } = c
    const got = selectDetections(Float32Array.from(boxes.flat()), Float32Array.from(scores.flat()), scores[0]!.length, {
      scoreThreshold: Math.fround(settings.score_threshold),
      nmsIou: settings.nms ? settings.nms_threshold : null,
      agnostic: false,
      bestClassOnly: !settings.class_specific_filter,
      maxDetections: settings.max_detections,
    })
    const name = `${c.name} ${JSON.stringify(settings)}`
    t.same(got.index, c.kept_index, `${name}: boxes`)
    t.same(got.label, c.kept_label, `${name}: labels`)
    t.same(got.score, c.kept_score.map(Math.fround), `${name}: scores`)
  }
})
