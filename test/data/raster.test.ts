import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import {
  composeSvg,
  encodeGrey16Png,
  encodeGreyPng,
  encodeGreyTiff,
  encodeJpeg,
  encodeRgbPng,
  pixelHash,
  readRaster,
  readRasterSize,
} from '../../lib/data/raster.js'

const ramp16 = Uint16Array.from({ length: 65536 }, (_, i) => i)
const ramp8 = Uint8Array.from({ length: 65536 }, (_, i) => i & 255)
const rgb = Uint8Array.from({ length: 3 * 65536 }, (_, i) => Math.floor(i / 3) & 255)

t.test('every value survives writing and reading', async (t) => {
  const folder = t.testdir()
  const files: [string, Uint8Array, ArrayLike<number>, number][] = [
    ['a.png', await encodeGrey16Png(ramp16, 256, 256), ramp16, 16],
    ['a.tif', await encodeGreyTiff(ramp16, 256, 256), ramp16, 16],
    ['b.png', await encodeGreyPng(ramp8, 256, 256), ramp8, 8],
    ['b.tif', await encodeGreyTiff(ramp8, 256, 256), ramp8, 8],
    ['c.png', await encodeRgbPng(rgb, 256, 256), ramp8, 8],
    ['d.pgm', Buffer.concat([Buffer.from('P5\n# film\n256 256\n255\n'), ramp8]), ramp8, 8],
  ]
  for (const [name, bytes, expected, bits] of files) {
    await writeFile(join(folder, name), bytes)
    const read = await readRaster(join(folder, name))
    t.match(read, { width: 256, height: 256, bits }, name)
    t.ok(
      read.data.every((value, i) => value === expected[i]),
      `values of ${name}`,
    )
    t.match(await readRasterSize(join(folder, name)), { width: 256, height: 256, bits }, `header of ${name}`)
  }
})

t.test('the hash is over little-endian uint16, whatever the file format', async (t) => {
  const folder = t.testdir()
  await writeFile(join(folder, 'b.png'), await encodeGreyPng(ramp8, 256, 256))
  await writeFile(join(folder, 'b.tif'), await encodeGreyTiff(ramp8, 256, 256))
  const hashOf = async (name: string) => pixelHash((await readRaster(join(folder, name))).data)
  t.equal(await hashOf('b.png'), await hashOf('b.tif'))
})

t.test('colour, damage and absence are errors that name the file', async (t) => {
  const folder = t.testdir({ 'text.png': 'not an image', 'empty.jpg': '' })
  const svg =
    '<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256"><rect width="50" height="50" fill="#f00"/></svg>'
  await writeFile(join(folder, 'red.png'), await composeSvg(rgb, 256, 256, svg))
  const jpeg = await encodeJpeg(ramp8, 256, 256, 1)
  await writeFile(join(folder, 'cut.jpg'), jpeg.subarray(0, jpeg.length / 2))
  for (const name of ['red.png', 'text.png', 'empty.jpg', 'cut.jpg', 'absent.png']) {
    const path = join(folder, name)
    await t.rejects(readRaster(path), { code: 'ERR_MAMMO_IMAGE', where: path, exitCode: 3 }, name)
  }
  await rm(join(folder, 'red.png'))
})

t.test('an overlay changes what it covers and nothing else', async (t) => {
  const folder = t.testdir()
  const white =
    '<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256"><rect width="2" height="1" fill="#fff"/></svg>'
  await writeFile(join(folder, 'o.png'), await composeSvg(rgb, 256, 256, white))
  const { data } = await readRaster(join(folder, 'o.png'))
  t.same([...data.subarray(0, 4)], [255, 255, 2, 3])
})
