import t from 'tap'
import { CSV_HEADER, type Prediction, toCoco, toCsv, toJson, toJsonLine } from '../../lib/predict/results.js'

const prediction: Prediction = {
  schema: 'mammo-retinanet/detections@1',
  image: { id: 'a, "b"', sha256: '0'.repeat(64), rows: 100, columns: 80, spacingMm: [0.1, 0.1] },
  model: { name: 'm', version: '1.0.0', sha256: '1'.repeat(64) },
  pipeline: {
    crop: [0, 0, 80, 100],
    breastFound: null,
    scale: 1,
    canvas: [128, 128],
    normalise: 'dataset',
    scope: 'whole image',
    views: 1,
    merge: 'none',
  },
  threshold: 0.05,
  detections: [
    { box: [1, 2, 11, 22], boxMm: [0.1, 0.2, 1.1, 2.2], score: 0.75, label: 'mass', classIndex: 0 },
    { box: [5, 5, 6, 7], boxMm: null, score: 0.5, label: 'other', classIndex: 1 },
  ],
  timingsMs: { decode: 1, prepare: 2, network: 3, total: 6 },
  warnings: [],
}
const classes = [
  { index: 0, name: 'mass', codes: [] },
  { index: 1, name: 'other', codes: [] },
]

t.test('JSON and JSON lines read back', async (t) => {
  t.strictSame(JSON.parse(toJson(prediction)), prediction)
  t.equal(toJsonLine(prediction).split('\n').length, 2)
  t.strictSame(JSON.parse(toJsonLine(prediction)), prediction)
})

t.test('COCO numbers from 1 and boxes with width and height', async (t) => {
  const coco = JSON.parse(toCoco([{ ...prediction, detections: [] }, prediction], classes))
  t.strictSame(coco.images[1], { id: 2, file_name: 'a, "b"', width: 80, height: 100 })
  t.strictSame(coco.annotations[0], {
    id: 1,
    image_id: 2,
    category_id: 1,
    bbox: [1, 2, 10, 20],
    area: 200,
    iscrowd: 0,
    score: 0.75,
  })
  t.equal(coco.annotations[1].category_id, 2)
  t.strictSame(coco.categories, [
    { id: 1, name: 'mass' },
    { id: 2, name: 'other' },
  ])
})

t.test('CSV quotes names and leaves unknown millimetres empty', async (t) => {
  const lines = (CSV_HEADER + toCsv(prediction)).trimEnd().split('\n')
  t.equal(lines[1], '"a, ""b""",1,2,11,22,0.75,mass,0.1,0.2,1.1,2.2')
  t.equal(lines[2], '"a, ""b""",5,5,6,7,0.5,other,,,,')
  t.equal(toCsv({ ...prediction, detections: [] }), '')
})
