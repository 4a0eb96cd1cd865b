// Pictures for a report: images with missed lesions, with the highest false alarms and with surely found lesions, in turn. Of each the whole image,
// reduced, and its decisive places at full resolution, as a reader would look at them.
import type { Config } from '../config/schema.js'
import { openPrepared, openReader, readCrop } from '../data/prepared.js'
import { pngToJpeg } from '../data/raster.js'
import type { Box, Rect } from '../data/types.js'
import { renderImage, type ViewInput } from '../data/view.js'
import { frocEvents } from '../evaluate/froc.js'
import type { Detection, ImageTruth } from '../evaluate/types.js'
import type { Picture } from '../report/page.js'
import { evaluationRules } from '../train/validate.js'
import { markHits } from './view.js'

/** Longer side of a whole image, and the least side of a full-resolution part, in pixels. */
const WHOLE = 900
const PART = 500
/** Full-resolution parts of one image. */
const PARTS = 2

/** Up to `count` images as pictures: the whole one first, its parts behind it. Detections above `config.predict.scoreThreshold` are shown and judged. */
export async function runGallery(
  root: string,
  truth: readonly ImageTruth[],
  detections: ReadonlyMap<string, readonly Detection[]>,
  config: Config,
  count: number,
): Promise<Picture[]> {
  const chosen = tellingImages(truth, detections, config).slice(0, count)
  const set = await openPrepared(root)
  const records = new Map(set.records.map((record) => [record.id, record]))
  const reader = openReader(set)
  const pictures: Picture[] = []
  try {
    for (const { id } of chosen) {
      const record = records.get(id)!
      const { pixels, width, height } = await readCrop(reader, record)
      const [dx, dy] = record.cache.crop
      const shift = ([x1, y1, x2, y2]: Box): Box => [x1 - dx, y1 - dy, x2 - dx, y2 - dy]
      const lesions = record.lesions.map((l) => ({ box: shift(l.box), label: l.class, ignore: l.ignore }))
      const found = (detections.get(id) ?? []).map((one) => ({ ...one, box: shift(one.box) }))
      const marked = markHits(lesions, found, config)
      const input: ViewInput = { pixels, width, height, ...marked, title: id }
      const missed = (marked.truth ?? []).filter((item) => item.tag?.includes('MISS'))
      const wrong = (marked.predictions ?? []).filter((item) => item.tag === 'FP').sort((a, b) => b.score - a.score)
      const summary = [
        `${lesions.length} lesion${lesions.length === 1 ? '' : 's'}`,
        ...(missed.length > 0 ? [`${missed.length} missed`] : []),
        `${wrong.length} false alarm${wrong.length === 1 ? '' : 's'}`,
      ].join(', ')
      const add = async (part: Rect | undefined, caption: string, alt: string) => {
        const view = part === undefined ? { ...input, maxSide: WHOLE } : { ...input, part, maxSide: 2 * WHOLE }
        const bytes = await pngToJpeg(await renderImage(view))
        pictures.push({ bytes, type: 'image/jpeg', caption, alt })
      }
      await add(undefined, `${id}: ${summary}`, `Mammogram ${id}: ${summary}`)
      const places = [
        ...missed.map(({ box }) => ({ box, what: 'missed lesion' })),
        ...wrong.map(({ box, score }) => ({ box, what: `false alarm, score ${score.toFixed(2)}` })),
        ...lesions.map(({ box }) => ({ box, what: 'found lesion' })),
      ]
      for (const { box, what } of places.slice(0, PARTS)) {
        const text = `${id}, ${what}, one pixel to one pixel`
        await add(around(box, width, height), text, `Part of mammogram ${id} at full resolution: ${what}`)
      }
    }
    return pictures
  } finally {
    await reader.close()
  }
}

/** Missed lesions, highest false alarms and highest hits take turns; then the rest in order. */
export function tellingImages(
  truth: readonly ImageTruth[],
  detections: ReadonlyMap<string, readonly Detection[]>,
  config: Config,
): ImageTruth[] {
  const { criteria, credit } = evaluationRules(config)
  const shown = new Map(
    [...detections].map(([id, list]) => [id, list.filter((d) => d.score > config.predict.scoreThreshold)]),
  )
  const events = frocEvents(truth, shown, { criterion: criteria[0]!, credit })
  const byScore = (scores: Float64Array, images: Int32Array) =>
    [...images].map((image, i) => ({ image, score: scores[i]! })).sort((a, b) => b.score - a.score)
  const lesions = byScore(events.lesionScore, events.lesionImage)
  const turns = [
    lesions.filter(({ score }) => score === Number.NEGATIVE_INFINITY),
    byScore(events.falseScore, events.falseImage),
    lesions.filter(({ score }) => score !== Number.NEGATIVE_INFINITY),
  ]
  const longest = Math.max(...turns.map((list) => list.length))
  const order = Array.from({ length: longest }, (_, i) => turns.map((list) => list[i]?.image)).flat()
  const known = [...order, ...truth.keys()].filter((image) => image !== undefined)
  return [...new Set(known)].map((image) => truth[image]!)
}

/** A square of twice the box's longer side around it, at least PART, moved into the image. */
function around([x1, y1, x2, y2]: Box, width: number, height: number): Rect {
  const side = Math.round(Math.max(PART, 2 * Math.max(x2 - x1, y2 - y1)))
  const start = (low: number, high: number, most: number) =>
    Math.max(0, Math.min(most - side, Math.round((low + high - side) / 2)))
  const [x, y] = [start(x1, x2, width), start(y1, y2, height)]
  return [x, y, Math.min(width, x + side), Math.min(height, y + side)]
}
