// Draws on an RGB picture in memory: grey rendering of 16-bit pixels through a stated window, rectangles, dashes, corner
// marks, labels. No files, no encoder, no meaning of colours (view.ts has that).
import { GLYPH_HEIGHT, GLYPH_WIDTH, glyphPixel } from './glyphs.js'

export interface Picture {
  width: number
  height: number
  /** [height, width, 3] */
  rgb: Uint8Array
}

export type Colour = readonly [number, number, number]

export function newPicture(width: number, height: number, [r, g, b]: Colour = [0, 0, 0]): Picture {
  const rgb = new Uint8Array(width * height * 3)
  for (let i = 0; i < rgb.length; i += 3) {
    rgb[i] = r
    rgb[i + 1] = g
    rgb[i + 2] = b
  }
  return { width, height, rgb }
}

/** Display window: percentiles `low` and `high` (0..1) of the non-zero pixels; [0, 1] of an image without any. */
export function percentileWindow(pixels: Uint16Array, low = 0.01, high = 0.99): [number, number] {
  const histogram = new Uint32Array(65536)
  let total = 0
  for (const value of pixels) {
    if (value === 0) continue
    histogram[value]!++
    total++
  }
  if (total === 0) return [0, 1]
  const at = (share: number) => {
    let seen = 0
    for (let v = 1; v < 65536; v++) {
      seen += histogram[v]!
      if (seen >= Math.max(1, share * total)) return v
    }
    return 65535
  }
  const from = at(low)
  return [from, Math.max(from + 1, at(high))]
}

/**
 * Grey picture of `pixels` (row-major `width` x `height`), `reduce` x `reduce` pixels averaged into one; values at or below
 * the window's low end are black, at or above its high end white.
 */
export function greyPicture(
  pixels: Uint16Array,
  width: number,
  height: number,
  [low, high]: readonly [number, number],
  reduce = 1,
): Picture {
  const w = Math.max(1, Math.floor(width / reduce))
  const h = Math.max(1, Math.floor(height / reduce))
  const rgb = new Uint8Array(w * h * 3)
  const scale = 255 / (high - low)
  const side = Math.min(reduce, width, height)
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      let sum = 0
      for (let v = 0; v < side; v++) {
        const row = (y * reduce + v) * width + x * reduce
        for (let u = 0; u < side; u++) sum += pixels[row + u]!
      }
      const grey = Math.min(255, Math.max(0, Math.round((sum / (side * side) - low) * scale)))
      rgb.fill(grey, (y * w + x) * 3, (y * w + x) * 3 + 3)
    }
  }
  return { width: w, height: h, rgb }
}

/** Fills [x1, x2) x [y1, y2), clipped to the picture. */
export function fillRect(picture: Picture, x1: number, y1: number, x2: number, y2: number, [r, g, b]: Colour): void {
  const { width, height, rgb } = picture
  for (let y = Math.max(0, y1); y < Math.min(height, y2); y++) {
    for (let x = Math.max(0, x1); x < Math.min(width, x2); x++) {
      const at = (y * width + x) * 3
      rgb[at] = r
      rgb[at + 1] = g
      rgb[at + 2] = b
    }
  }
}

/** Outline of a box around its content, `line` pixels wide; with `dash`, that many pixels on and two thirds of it off. */
export function outline(
  picture: Picture,
  box: readonly [number, number, number, number],
  colour: Colour,
  line: number,
  dash = 0,
): void {
  const [x1, y1, x2, y2] = [Math.round(box[0]), Math.round(box[1]), Math.round(box[2]), Math.round(box[3])]
  const on = dash === 0 ? Number.POSITIVE_INFINITY : dash
  const period = dash === 0 ? Number.POSITIVE_INFINITY : dash + Math.max(1, Math.round((dash * 2) / 3))
  const [left, right, top, bottom] = [x1 - line, x2 + line, y1 - line, y2 + line]
  for (let x = left; x < right; x += period) {
    const end = Math.min(right, x + on)
    fillRect(picture, x, top, end, y1, colour)
    fillRect(picture, x, y2, end, bottom, colour)
    if (period === Number.POSITIVE_INFINITY) break
  }
  for (let y = top; y < bottom; y += period) {
    const end = Math.min(bottom, y + on)
    fillRect(picture, left, y, x1, end, colour)
    fillRect(picture, x2, y, right, end, colour)
    if (period === Number.POSITIVE_INFINITY) break
  }
}

/** Marks the four corners of a box, outside its outline. */
export function cornerMarks(
  picture: Picture,
  box: readonly [number, number, number, number],
  colour: Colour,
  line: number,
): void {
  const length = 6 * line
  const [x1, y1, x2, y2] = [
    Math.round(box[0]) - 2 * line,
    Math.round(box[1]) - 2 * line,
    Math.round(box[2]) + 2 * line,
    Math.round(box[3]) + 2 * line,
  ]
  for (const [x, toRight] of [
    [x1, true],
    [x2, false],
  ] as const) {
    for (const [y, toBottom] of [
      [y1, true],
      [y2, false],
    ] as const) {
      const [fx, tx] = toRight ? [x - line, x + length] : [x - length, x + line]
      const [fy, ty] = toBottom ? [y - line, y + length] : [y - length, y + line]
      fillRect(picture, fx, toBottom ? y - line : y, tx, toBottom ? y : y + line, colour)
      fillRect(picture, toRight ? x - line : x, fy, toRight ? x : x + line, ty, colour)
    }
  }
}

/** Size of a label in pixels at a glyph scale. */
export function labelSize(text: string, scale: number): [number, number] {
  return [(text.length * (GLYPH_WIDTH + 1) + 1) * scale, (GLYPH_HEIGHT + 2) * scale]
}

/** Text on a filled ground, its top left corner at (x, y), moved inside the picture where it would leave it. */
export function label(
  picture: Picture,
  x: number,
  y: number,
  text: string,
  ground: Colour,
  ink: Colour,
  scale: number,
): void {
  const [width, height] = labelSize(text, scale)
  const left = Math.max(0, Math.min(picture.width - width, Math.round(x)))
  const top = Math.max(0, Math.min(picture.height - height, Math.round(y)))
  fillRect(picture, left, top, left + width, top + height, ground)
  for (const [n, character] of [...text].entries()) {
    for (let v = 0; v < GLYPH_HEIGHT; v++) {
      for (let u = 0; u < GLYPH_WIDTH; u++) {
        if (!glyphPixel(character, u, v)) continue
        const px = left + (1 + n * (GLYPH_WIDTH + 1) + u) * scale
        const py = top + (1 + v) * scale
        fillRect(picture, px, py, px + scale, py + scale, ink)
      }
    }
  }
}

/** Copies `source` into `target` with its corner at (x, y), clipped. */
export function paste(target: Picture, source: Picture, x: number, y: number): void {
  for (let row = Math.max(0, -y); row < Math.min(source.height, target.height - y); row++) {
    const from = Math.max(0, -x)
    const to = Math.min(source.width, target.width - x)
    if (to <= from) return
    const line = source.rgb.subarray((row * source.width + from) * 3, (row * source.width + to) * 3)
    target.rgb.set(line, ((y + row) * target.width + x + from) * 3)
  }
}
