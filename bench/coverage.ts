// `npm run bench -- coverage`: what leaving P3 out costs, in anchors: how many real lesions have a positive anchor at full size, by size,
// with P3 to P7 and with P4 to P7. The boxes are CBIS-DDSM's (cbis-ddsm-800 of the data folder, squashed to 800 x 800), stretched back to a
// full-size film; the four films that are stored at their own size check the stretching. Anchors only: no detector is trained here.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { writeFileAtomic } from '../lib/atomic-write.js'
import { defaultConfig } from '../lib/config/load.js'
import type { Config } from '../lib/config/schema.js'
import type { Box } from '../lib/data/types.js'
import { packageRoot } from '../lib/package-root.js'
import { type AnchorReport, reportAnchors } from '../lib/tasks/anchors.js'
import type { TrainingImage } from '../lib/tasks/training-boxes.js'
import { markdownTable, writeBetweenMarkers } from './markdown.js'

interface Coverage {
  /** What the boxes lie on. */
  films: string
  levels: number[]
  positiveIou: number
  boxes: number
  /** Lesions with a positive anchor. */
  covered: number
  meanBestIou: number
  minimumBestIou: number
  /** Median positive anchors per lesion. */
  medianPositives: number
  anchorsPerImage: number
  sizes: AnchorReport['sizes']
}

export interface CoverageResults {
  schema: 'mammo-retinanet/bench-coverage@1'
  rows: Coverage[]
}

const resultFile = () => join(packageRoot(), 'bench', 'results', 'coverage.json')

/** Width and height that the squashed films are stretched to. */
const CANVASES = {
  'stretched to 3328 x 4096': [3328, 4096],
  'stretched to the mean of four films, 3133 x 5537': [3133, 5537],
} as const

export async function benchCoverage(args: readonly string[]): Promise<void> {
  const program = new Command('bench coverage').option(
    ...['--data <folder>', 'data folder', process.env['MAMMO_DATA'] ?? join(packageRoot(), '..', 'shared', 'data')],
  )
  program.parse(args, { from: 'user' })
  const { data } = program.opts<{ data: string }>()
  const squashed = readSquashed(join(data, 'cbis-ddsm-800', 'annotations.json'))
  const films = {
    ...Object.fromEntries(
      Object.entries(CANVASES).map(([name, [width, height]]) => [name, stretched(squashed, width, height)]),
    ),
    'four films at their own size': readFull(join(data, 'cbis-ddsm-fullres', 'boxes.json')),
  }
  const rows = Object.entries(films).flatMap(([name, images]) =>
    [3, 4].map((lowest): Coverage => {
      const config = pyramidFrom(lowest)
      const { coverage, sizes, positiveIou } = reportAnchors(images, config)
      return {
        ...{ films: name, levels: config.model.levels, positiveIou, boxes: coverage.boxes.length },
        covered: coverage.boxes.length - coverage.unmatched.length,
        ...{ meanBestIou: coverage.meanBestIou!, minimumBestIou: coverage.minimumBestIou! },
        medianPositives: coverage.medianPositives!,
        anchorsPerImage: coverage.levels.reduce((sum, { anchors }) => sum + anchors, 0),
        sizes,
      }
    }),
  )
  const results: CoverageResults = { schema: 'mammo-retinanet/bench-coverage@1', rows }
  await writeFileAtomic(resultFile(), `${JSON.stringify(results, null, 1)}\n`)
  process.stdout.write(`${coverageText(results)}\n`)
  await writeCoverageText()
}

/** Writes the committed results' table into bench/README.md. */
export async function writeCoverageText(): Promise<void> {
  if (!existsSync(resultFile())) return
  const results = JSON.parse(readFileSync(resultFile(), 'utf8')) as CoverageResults
  await writeBetweenMarkers(join(packageRoot(), 'bench', 'README.md'), 'bench coverage', coverageText(results))
}

function pyramidFrom(lowest: number): Config {
  const config = defaultConfig('mammo')
  const from = config.model.levels.indexOf(lowest)
  config.model.levels = config.model.levels.slice(from)
  config.anchors.sizes = config.anchors.sizes.slice(from)
  config.anchors.strides = config.anchors.strides.slice(from)
  return config
}

const padded = (side: number) => Math.ceil(side / 128) * 128

function imageOf(id: string, width: number, height: number, boxes: Box[]): TrainingImage {
  return { id, width: padded(width), height: padded(height), boxes, scale: 1, sizesMm: boxes.map(() => null) }
}

/** Boxes of the 800-pixel set by image. */
function readSquashed(path: string): Map<number, Box[]> {
  const { annotations } = JSON.parse(readFileSync(path, 'utf8')) as {
    annotations: { image_id: number; bbox: [number, number, number, number] }[]
  }
  const byImage = new Map<number, Box[]>()
  for (const { image_id: image, bbox } of annotations) {
    const [x, y, w, h] = bbox
    byImage.set(image, [...(byImage.get(image) ?? []), [x, y, x + w, y + h]])
  }
  return byImage
}

function stretched(images: Map<number, Box[]>, width: number, height: number): TrainingImage[] {
  const [sx, sy] = [width / 800, height / 800]
  return [...images].map(([id, boxes]) =>
    imageOf(
      String(id),
      width,
      height,
      boxes.map(([x1, y1, x2, y2]): Box => [x1 * sx, y1 * sy, x2 * sx, y2 * sy]),
    ),
  )
}

function readFull(path: string): TrainingImage[] {
  const films = JSON.parse(readFileSync(path, 'utf8')) as Record<
    string,
    { width: number; height: number; boxes_xywh: [number, number, number, number][] }
  >
  return Object.entries(films).map(([id, { width, height, boxes_xywh: boxes }]) =>
    imageOf(
      id,
      width,
      height,
      boxes.map(([x, y, w, h]): Box => [x, y, x + w, y + h]),
    ),
  )
}

export function coverageText({ rows }: CoverageResults): string {
  const films = [...new Set(rows.map((row) => row.films))]
  const body = films.flatMap((name) => {
    const [all, coarse] = rows.filter((row) => row.films === name) as [Coverage, Coverage]
    const line = (
      label: string,
      pick: (row: Coverage) => Pick<Coverage, 'boxes' | 'covered' | 'meanBestIou'> | undefined,
    ) => {
      const [a, b] = [pick(all), pick(coarse)]
      if (a === undefined || b === undefined) return []
      return [
        [
          label,
          String(a.boxes),
          `${a.covered} / ${b.covered}`,
          `${a.meanBestIou.toFixed(3)} / ${b.meanBestIou.toFixed(3)}`,
        ],
      ]
    }
    return [
      ...line(`**${name}**`, (row) => row),
      ...all.sizes.flatMap(({ from, to }) =>
        line(`side ${from}${to === null ? ' and more' : ` to ${to}`}`, (row) =>
          row.sizes.find((size) => size.from === from),
        ),
      ),
    ]
  })
  const [first, second] = rows
  return [
    markdownTable(
      ['lesions, sides in pixels of the film', 'boxes', 'with a positive anchor: P3 to P7 / P4 to P7', 'mean best IoU'],
      body,
    ),
    '',
    `Positive from IoU ${first?.positiveIou}. ${Math.round(first?.anchorsPerImage ?? 0).toLocaleString('en')} anchors an image with P3, ${Math.round(second?.anchorsPerImage ?? 0).toLocaleString('en')} without (3328 x 4096).`,
  ].join('\n')
}
