// Records with all that the generic formats can hold, and the images they name, for round trips.
import type { ImageRecord } from '../../../lib/data/types.js'
import { png } from './layouts.js'

const source = {
  adapter: 'coco',
  adapterVersion: 1,
  annotationFile: 'a.json',
  transferSyntax: 'image/png',
  fileSize: 1,
}

export function sampleRecords(): ImageRecord[] {
  const lesion = (id: string, name: string, box: [number, number, number, number], ignore = false) => ({
    id,
    class: name,
    box,
    pathology: 'unknown' as const,
    biRads: null,
    ignore,
    clipped: false,
    source: { file: 'a.json', index: 0, name },
  })
  const record = (name: string, split: 'train' | 'test', lesions: ReturnType<typeof lesion>[]): ImageRecord => ({
    v: 1,
    id: `coco/${name}`,
    path: `${name}.png`,
    frame: 0,
    patient: name,
    laterality: null,
    view: null,
    width: 120,
    height: 90,
    spacingMm: null,
    spacingSource: null,
    split,
    density: null,
    biRads: null,
    annotated: true,
    lesions,
    flags: [],
    source,
  })
  return [
    record('a', 'train', [
      lesion('1', 'mass', [10.25, 20.5, 40.125, 60]),
      lesion('2', 'calcification', [0, 0, 120, 90], true),
    ]),
    record('b', 'train', []),
    record('c', 'test', [lesion('3', 'mass', [1 / 3, 5, 77.7, 80.1])]),
  ]
}

export async function sampleImages(folder = ''): Promise<Record<string, Uint8Array>> {
  const image = await png(120, 90)
  return Object.fromEntries(['a', 'b', 'c'].map((name) => [`${folder}${name}.png`, image]))
}

/** Classes and boxes per image, for comparison. */
export function boxesOf(records: readonly ImageRecord[]): [string, number[]][][] {
  return records.map(({ lesions }) => lesions.map(({ class: name, box }) => [name, [...box]]))
}

/** Largest difference of boxes; infinite when images, classes or counts differ. */
export function boxDistance(a: readonly ImageRecord[], b: readonly ImageRecord[]): number {
  const [left, right] = [boxesOf(a), boxesOf(b)]
  const names = (records: typeof left) => JSON.stringify(records.map((lesions) => lesions.map(([name]) => name)))
  if (names(left) !== names(right)) return Number.POSITIVE_INFINITY
  const off = left.flatMap((lesions, i) =>
    lesions.flatMap(([, box], j) => box.map((v, k) => Math.abs(v - right[i]![j]![1][k]!))),
  )
  return Math.max(0, ...off)
}
