// Finds what train, val and test have in common: patients, the same DICOM object, the same pixels, nearly the same picture
// (also mirrored). The first three are errors, the last a warning, because two views may look alike (datasets spec 4.6).
import { DataError } from '../errors.js'
import { type Fold, PARTS, type Part } from './split.js'

export interface LeakImage {
  id: string
  patient: string
  /** Hash of the SOP Instance UID; null when the source has none. */
  instance: string | null
  /** SHA-256 of the pixels; null when not prepared. */
  pixels: string | null
  /** `differenceHash` of the crop and of its mirror image; null when not prepared. */
  dhash: string | null
  mirrored: string | null
}

export interface Leak {
  rule: 'leak/patient' | 'leak/instance' | 'leak/pixels' | 'leak/similar'
  level: 'error' | 'warning'
  /** The shared patient, hash, or pair of images. */
  key: string
  parts: Part[]
  ids: string[]
}

/**
 * Pictures are similar when the hash of horizontal differences is at this Hamming distance or less and so is that of vertical
 * ones. Breasts are alike from left to right: with the first alone, 126 pairs of 1231 films were called similar.
 */
const SIMILAR_BITS = 2

/** All leaks of one fold, sorted by rule and key; empty when clean. Ids that `images` lacks are an error of the caller. */
export function findLeaks(fold: Fold, images: readonly LeakImage[]): Leak[] {
  const byId = new Map(images.map((image) => [image.id, image]))
  const members = PARTS.flatMap((part) => fold[part].map((id) => ({ part, image: byId.get(id)! })))
  const leaks = [
    ...shared(members, 'leak/patient', (image) => image.patient),
    ...shared(members, 'leak/instance', (image) => image.instance),
    ...shared(members, 'leak/pixels', (image) => image.pixels),
  ]
  const samePixels = new Set(leaks.filter((leak) => leak.rule === 'leak/pixels').flatMap((leak) => leak.ids))
  return [...leaks, ...similar(members, samePixels)]
}

/** Throws ERR_MAMMO_SPLIT_LEAK for the first error-level rule, naming up to five groups; warnings pass. */
export function refuseLeaks(leaks: readonly Leak[], where: string): void {
  const errors = leaks.filter((leak) => leak.level === 'error')
  const first = errors[0]
  if (first === undefined) return
  const same = errors.filter((leak) => leak.rule === first.rule)
  const what = {
    'leak/patient': 'patients',
    'leak/instance': 'DICOM objects',
    'leak/pixels': 'images with equal pixels',
    'leak/similar': 'similar images',
  }[first.rule]
  const names = same.map((leak) => (first.rule === 'leak/patient' ? leak.key : leak.ids.join(' = ')))
  throw new DataError(
    'SPLIT_LEAK',
    `expected no ${what} in more than one part, got ${same.length} (${first.parts.join(' and ')} share ${names[0]})`,
    {
      where: `${where}, groups ${names.slice(0, 5).join(', ')}${names.length > 5 ? ` and ${names.length - 5} more` : ''}`,
      fix: 'run `mammo-retinanet data split` (groups by patient); for a comparison only: data.allowLeak=true',
      details: { rule: first.rule, count: same.length },
    },
  )
}

interface Member {
  part: Part
  image: LeakImage
}

function shared(members: readonly Member[], rule: Leak['rule'], keyOf: (image: LeakImage) => string | null): Leak[] {
  const groups = new Map<string, Member[]>()
  for (const member of members) {
    const key = keyOf(member.image)
    if (key === null) continue
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [member])
    else group.push(member)
  }
  const leaks: Leak[] = []
  for (const [key, group] of groups) {
    const parts = PARTS.filter((part) => group.some((member) => member.part === part))
    if (parts.length < 2) continue
    leaks.push({ rule, level: 'error', key, parts, ids: group.map((member) => member.image.id).sort() })
  }
  return leaks.sort((a, b) => (a.key < b.key ? -1 : 1))
}

function similar(members: readonly Member[], known: ReadonlySet<string>): Leak[] {
  const hashed = members.filter((member) => member.image.dhash !== null && !known.has(member.image.id))
  const words = hashed.map((member) => ({
    plain: words32(member.image.dhash!),
    mirrored: words32(member.image.mirrored ?? member.image.dhash!),
  }))
  const leaks: Leak[] = []
  for (let i = 0; i < hashed.length; i++) {
    for (let j = i + 1; j < hashed.length; j++) {
      if (hashed[i]!.part === hashed[j]!.part) continue
      if (!close(words[i]!.plain, words[j]!.plain) && !close(words[i]!.mirrored, words[j]!.plain)) continue
      const ids = [hashed[i]!.image.id, hashed[j]!.image.id].sort()
      const parts = PARTS.filter((part) => part === hashed[i]!.part || part === hashed[j]!.part)
      leaks.push({ rule: 'leak/similar', level: 'warning', key: ids.join(' ~ '), parts, ids })
    }
  }
  return leaks.sort((a, b) => (a.key < b.key ? -1 : 1))
}

/** Four 32-bit words: horizontal high and low, vertical high and low. */
type HashWords = [number, number, number, number]

function words32(hex: string): HashWords {
  const word = (n: number) => Number.parseInt(hex.slice(8 * n, 8 * n + 8), 16) | 0
  return [word(0), word(1), word(2), word(3)]
}

function close(a: HashWords, b: HashWords): boolean {
  if (popcount(a[0] ^ b[0]) + popcount(a[1] ^ b[1]) > SIMILAR_BITS) return false
  return popcount(a[2] ^ b[2]) + popcount(a[3] ^ b[3]) <= SIMILAR_BITS
}

function popcount(value: number): number {
  let v = value - ((value >>> 1) & 0x55555555)
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333)
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

/**
 * Difference hash of an image and of its mirror image, 32 hex digits each: the usual 64 bits over horizontal neighbours of
 * 8x9 cell means (set when the right cell is darker), then 64 bits over vertical neighbours of 9x8 (set when the lower is).
 * Survives rescaling and small changes of brightness.
 */
export function differenceHash(
  pixels: Uint16Array,
  width: number,
  height: number,
): { dhash: string; mirrored: string } {
  const sums = gridSums(pixels, width, height)
  const wide = cellMeans(sums, width, height, 8, 9)
  const tall = cellMeans(sums, width, height, 9, 8)
  const bits = (darker: (row: number, column: number) => boolean) => {
    let hex = ''
    for (let row = 0; row < 8; row++) {
      let byte = 0
      for (let column = 0; column < 8; column++) byte = (byte << 1) | (darker(row, column) ? 1 : 0)
      hex += byte.toString(16).padStart(2, '0')
    }
    return hex
  }
  return {
    dhash:
      bits((row, column) => wide[row * 9 + column + 1]! < wide[row * 9 + column]!) +
      bits((row, column) => tall[(row + 1) * 8 + column]! < tall[row * 8 + column]!),
    mirrored:
      bits((row, column) => wide[row * 9 + 7 - column]! < wide[row * 9 + 8 - column]!) +
      bits((row, column) => tall[(row + 1) * 8 + 7 - column]! < tall[row * 8 + 7 - column]!),
  }
}

/** Edges are rounded symmetrically, so that the mirror image has mirrored cells. */
function cellEdge(n: number, count: number, side: number): number {
  return 2 * n <= count ? Math.floor((n * side) / count) : side - Math.floor(((count - n) * side) / count)
}

/** Summed-area table at the edges of grids of 8 and 9 cells: one pass over the pixels serves both grids. */
interface GridSums {
  /** Ascending, from 0 to the side. */
  xs: number[]
  ys: number[]
  /** [ys][xs] sum of the pixels above and left. */
  table: Float64Array
}

function gridSums(pixels: Uint16Array, width: number, height: number): GridSums {
  const edges = (side: number) => {
    const all = [8, 9].flatMap((count) =>
      Array.from({ length: count }, (_, n) => cellEdge(n, count, side)).flatMap((edge, n) => [
        edge,
        Math.max(edge + 1, cellEdge(n + 1, count, side)),
      ]),
    )
    return [...new Set([0, side, ...all])].sort((a, b) => a - b)
  }
  const [xs, ys] = [edges(width), edges(height)]
  const columns = xs.length
  const table = new Float64Array(ys.length * columns)
  const strip = new Float64Array(columns)
  for (let i = 1; i < ys.length; i++) {
    strip.fill(0)
    for (let y = ys[i - 1]!; y < ys[i]!; y++) {
      const row = y * width
      for (let j = 1; j < columns; j++) {
        let sum = 0
        for (let at = row + xs[j - 1]!, end = row + xs[j]!; at < end; at++) sum += pixels[at]!
        strip[j]! += sum
      }
    }
    let sum = 0
    for (let j = 1; j < columns; j++) {
      sum += strip[j]!
      table[i * columns + j] = table[(i - 1) * columns + j]! + sum
    }
  }
  return { xs, ys, table }
}

/** Means of a grid of cells, whole numbers, so that an image and its copy never differ by rounding. */
function cellMeans(
  { xs, ys, table }: GridSums,
  width: number,
  height: number,
  rows: number,
  columns: number,
): Float64Array {
  const cells = new Float64Array(rows * columns)
  const at = (x: number, y: number) => table[ys.indexOf(y) * xs.length + xs.indexOf(x)]!
  for (let row = 0; row < rows; row++) {
    const y1 = cellEdge(row, rows, height)
    const y2 = Math.max(y1 + 1, cellEdge(row + 1, rows, height))
    for (let column = 0; column < columns; column++) {
      const x1 = cellEdge(column, columns, width)
      const x2 = Math.max(x1 + 1, cellEdge(column + 1, columns, width))
      const sum = at(x2, y2) - at(x1, y2) - at(x2, y1) + at(x1, y1)
      cells[row * columns + column] = Math.floor(sum / ((x2 - x1) * (y2 - y1)))
    }
  }
  return cells
}
