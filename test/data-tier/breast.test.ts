// Breast crop on real films: the bounds of datasets spec 8.10. Needs shared data; skips with a reason without it.
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import t from 'tap'
import { findBreast, protectLesions } from '../../lib/data/breast.js'
import { readRaster } from '../../lib/data/raster.js'
import { packageRoot } from '../../lib/package-root.js'

t.setTimeout(600_000)
const data = process.env['MAMMO_DATA'] ?? resolve(packageRoot(), '..', 'shared', 'data')

const small = join(data, 'cbis-ddsm-800')
t.test('1231 CBIS-DDSM films', { skip: existsSync(small) ? false : `no ${small}` }, async (t) => {
  const coco = JSON.parse(await readFile(join(small, 'annotations.json'), 'utf8'))
  const boxes = new Map<number, [number, number, number, number][]>()
  for (const { image_id, bbox } of coco.annotations) {
    const [x, y, w, h] = bbox
    boxes.set(image_id, [...(boxes.get(image_id) ?? []), [x, y, x + w, y + h]])
  }
  const shares: number[] = []
  let [outside, after, lesions] = [0, 0, 0]
  for (const { id, file_name } of coco.images) {
    const { data, width, height } = await readRaster(join(small, file_name))
    const region = findBreast(data, width, height)
    const own = boxes.get(id) ?? []
    lesions += own.length
    const safe = protectLesions(region.crop, own, width, height)
    outside += safe.extended
    after += protectLesions(safe.crop, own, width, height).extended
    shares.push(((safe.crop[2] - safe.crop[0]) * (safe.crop[3] - safe.crop[1])) / (width * height))
  }
  shares.sort((a, b) => a - b)
  const median = shares[shares.length >> 1]!
  const mean = shares.reduce((a, b) => a + b, 0) / shares.length
  t.comment(
    `${outside} of ${lesions} boxes outside before protection, ${after} after; kept: median ${median}, mean ${mean}`,
  )
  t.ok(outside <= 5)
  t.equal(after, 0)
  t.ok(median <= 0.7)
})

const films = join(data, 'cbis-ddsm-fullres')
t.test('full-resolution films', { skip: existsSync(films) ? false : `no ${films}` }, async (t) => {
  const index: Record<string, { boxes_xywh: number[][] }> = JSON.parse(
    await readFile(join(films, 'boxes.json'), 'utf8'),
  )
  const limits = [0.65, 0.92, 0.72, 0.8]
  for (const [n, [name, { boxes_xywh }]] of Object.entries(index).entries()) {
    const { data, width, height } = await readRaster(join(films, name))
    const { crop } = findBreast(data, width, height)
    const share = ((crop[2] - crop[0]) * (crop[3] - crop[1])) / (width * height)
    t.ok(share <= (limits[n] ?? 1), `${name} keeps ${(100 * share).toFixed(1)} %`)
    for (const [x, y, w, h] of boxes_xywh as [number, number, number, number][]) {
      t.ok(x >= crop[0] && y >= crop[1] && x + w <= crop[2] && y + h <= crop[3], 'lesion inside')
    }
  }
})
