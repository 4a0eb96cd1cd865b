// Pictures of images with what is known and found on them. Red, solid: ground truth, label `mass`. Blue, dashed: prediction,
// label `mass 0.87`. Green corner marks: a lesion that was found or has an anchor. Tags: MISS, FP, NO ANCHOR. Cyan: anchors.
// Grey values come from 16-bit pixels through a stated window, never by truncation (cli spec 11).
import {
  type Colour,
  cornerMarks,
  fillRect,
  greyPicture,
  label,
  labelSize,
  newPicture,
  outline,
  type Picture,
  paste,
  percentileWindow,
} from './draw.js'
import { encodeRgbPng } from './raster.js'
import type { Box, Rect } from './types.js'

export interface ShownTruth {
  box: Box
  /** Default `mass`. */
  label?: string
  /** True: green corner marks. */
  matched?: boolean
  /** `MISS`, `NO ANCHOR`. */
  tag?: string
  /** An ignore region: dotted instead of solid. */
  ignore?: boolean
}

export interface ShownPrediction {
  box: Box
  label?: string
  /** 0..1 */
  score: number
  /** `FP` */
  tag?: string
}

export interface ViewColours {
  truth: Colour
  prediction: Colour
  matched: Colour
  anchor: Colour
  ink: Colour
}

export const VIEW_COLOURS: ViewColours = {
  truth: [220, 30, 30],
  prediction: [40, 90, 255],
  matched: [40, 200, 80],
  anchor: [0, 200, 200],
  ink: [255, 255, 255],
}

export interface ViewInput {
  /** Row-major uint16. */
  pixels: Uint16Array
  width: number
  height: number
  truth?: readonly ShownTruth[]
  predictions?: readonly ShownPrediction[]
  anchors?: readonly Box[]
  /** Grey window in raw values; default: percentiles 1 and 99 of the non-zero pixels. */
  window?: readonly [number, number]
  /** Show only this part, at 1:1 unless `maxSide` reduces it. */
  part?: Rect
  /** Reduce by a whole factor until the longer side is at most this. */
  maxSide?: number
  /** Written in the top left corner. */
  title?: string
  colours?: Partial<ViewColours>
  /** Factor on line width and text size; both follow the picture's size. */
  lineScale?: number
}

/** PNG of `drawView`. */
export async function renderImage(input: ViewInput): Promise<Uint8Array> {
  return encodePicture(drawView(input))
}

/** PNG of a picture. */
export async function encodePicture(picture: Picture): Promise<Uint8Array> {
  return encodeRgbPng(picture.rgb, picture.width, picture.height)
}

/** Draws image, anchors, truth, predictions, in this order. Coordinates are pixels of the given image. */
export function drawView(input: ViewInput): Picture {
  const colours = { ...VIEW_COLOURS, ...input.colours }
  const grey = input.window ?? percentileWindow(input.pixels)
  const [x0, y0, x1, y1] = input.part ?? [0, 0, input.width, input.height]
  const [width, height] = [x1 - x0, y1 - y0]
  const pixels = input.part === undefined ? input.pixels : cutPart(input.pixels, input.width, input.height, input.part)
  const reduce = Math.max(1, Math.ceil(Math.max(width, height) / (input.maxSide ?? Number.POSITIVE_INFINITY)))
  const picture = greyPicture(pixels, width, height, grey, reduce)
  const side = Math.max(picture.width, picture.height) * (input.lineScale ?? 1)
  const line = Math.max(1, Math.round(side / 450))
  const text = Math.max(1, Math.round(side / 600))
  const place = ([a, b, c, d]: Box): Box => [(a - x0) / reduce, (b - y0) / reduce, (c - x0) / reduce, (d - y0) / reduce]

  for (const anchor of input.anchors ?? []) outline(picture, place(anchor), colours.anchor, 1)
  for (const item of input.truth ?? []) {
    const box = place(item.box)
    outline(picture, box, colours.truth, line, item.ignore === true ? 2 * line : 0)
    if (item.matched === true) cornerMarks(picture, box, colours.matched, 2 * line)
    const words = [item.ignore === true ? 'ignored' : (item.label ?? 'mass'), item.tag].filter(Boolean).join(' ')
    const [, height] = labelSize(words, text)
    label(picture, box[0] - line, box[1] - line - height, words, colours.truth, colours.ink, text)
  }
  // Predictions are labelled below their box, so that the label of the lesion they hit stays readable.
  for (const item of input.predictions ?? []) {
    const box = place(item.box)
    outline(picture, box, colours.prediction, line, 8 * line)
    const words = [item.label ?? 'mass', item.score.toFixed(2), item.tag].filter(Boolean).join(' ')
    label(picture, box[0] - line, box[3] + line, words, colours.prediction, colours.ink, text)
  }
  if (input.title !== undefined) label(picture, 0, 0, input.title, [0, 0, 0], colours.ink, text)
  return picture
}

function cutPart(pixels: Uint16Array, width: number, height: number, [x1, y1, x2, y2]: Rect): Uint16Array {
  const result = new Uint16Array((x2 - x1) * (y2 - y1))
  for (let y = Math.max(0, y1); y < Math.min(height, y2); y++) {
    const [from, to] = [Math.max(0, x1), Math.min(width, x2)]
    result.set(pixels.subarray(y * width + from, y * width + to), (y - y1) * (x2 - x1) + from - x1)
  }
  return result
}

/** Pictures side by side in rows of `columns`, each in a cell of the largest one's size. */
export function contactSheet(pictures: readonly Picture[], columns: number, gap = 4): Picture {
  const width = Math.max(1, ...pictures.map((picture) => picture.width)) + gap
  const height = Math.max(1, ...pictures.map((picture) => picture.height)) + gap
  const across = Math.max(1, Math.min(columns, pictures.length))
  const sheet = newPicture(across * width, Math.max(1, Math.ceil(pictures.length / across)) * height, [48, 48, 48])
  for (const [n, picture] of pictures.entries()) {
    const [x, y] = [(n % across) * width, Math.floor(n / across) * height]
    fillRect(sheet, x, y, x + width - gap, y + height - gap, [0, 0, 0])
    paste(sheet, picture, x, y)
  }
  return sheet
}
