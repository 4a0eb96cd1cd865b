import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { writeCrops } from '../../lib/data/crops.js'
import { prepareRecords } from '../../lib/data/prepare.js'
import { openPrepared, openReader, readCrop } from '../../lib/data/prepared.js'
import { readRaster } from '../../lib/data/raster.js'
import { config, lesion, record, writeImages } from './fixtures.js'

t.test('the fixed patch set: counts of the rule, values of the cache, zeros beyond, same bytes again', async (t) => {
  const root = t.testdir()
  const records = [
    record('set/a', { width: 300, height: 400, lesions: [lesion([20, 180, 70, 220])] }),
    record('set/b', { width: 300, height: 400, lesions: [lesion([10, 150, 250, 390])] }),
    record('set/c', { width: 300, height: 400 }),
    record('set/d', { width: 300, height: 400, annotated: false }),
  ]
  await writeImages(root, records)
  const out = join(root, 'prepared')
  await prepareRecords(
    { root, adapter: 'coco', tool: 'test', labelRules: {}, records, headerLine: '{}' },
    { out, workers: 0, crop: false, split: { ratio: [1, 0, 0] } },
  )
  const set = await openPrepared(out)
  const data = { ...config.data, patch: { ...config.data.patch, size: 128 } }
  const options = { classes: ['mass'], data, seed: 3 }
  const msc = await writeCrops(set, join(out, 'crops'), { ...options, rule: 'msc' })
  t.match(msc, { patches: 7, positive: 5, negative: 2, skippedLesions: 1, boxes: 5 })
  const text = await readFile(join(out, 'crops', 'annotations.json'), 'utf8')
  const file = JSON.parse(text)
  t.same([...new Set(file.images.map((image: { source: string }) => image.source))], ['set/a', 'set/c'])
  const reader = openReader(set)
  const whole = new Map<string, { pixels: Uint16Array; width: number; height: number }>()
  for (const item of set.records) whole.set(item.id, await readCrop(reader, item))
  await reader.close()
  let beyond = 0
  for (const { file_name, source, left, top } of file.images) {
    const patch = await readRaster(join(out, 'crops', file_name))
    t.equal(patch.bits, 16)
    const { pixels, width, height } = whole.get(source)!
    const expected = Uint16Array.from({ length: 128 * 128 }, (_, at) => {
      const [x, y] = [left + (at % 128), top + Math.floor(at / 128)]
      if (x >= 0 && y >= 0 && x < width && y < height) return pixels[y * width + x]!
      beyond++
      return 0
    })
    t.ok(Buffer.from(patch.data.buffer).equals(Buffer.from(expected.buffer)), file_name)
  }
  t.comment(`${beyond} pixels beyond the border`)
  for (const { image_id, bbox } of file.annotations) {
    const { left, top } = file.images[image_id]
    t.same([bbox[0] + left, bbox[1] + top, bbox[2], bbox[3]], [20, 180, 50, 40])
  }
  await writeCrops(set, join(out, 'crops'), { ...options, rule: 'msc' })
  t.equal(await readFile(join(out, 'crops', 'annotations.json'), 'utf8'), text)
  const ours = await writeCrops(set, join(out, 'ours'), { ...options, rule: 'ours' })
  t.match(ours, { patches: 12, positive: 10, negative: 2, skippedLesions: 0 })
})
