import t from 'tap'
import type { WindowReader } from '../../lib/data/cache.js'
import { loadBatches } from '../../lib/data/loader.js'
import { createSampler } from '../../lib/data/sampler.js'
import { config, samplerImage } from './fixtures.js'

const images = [...Array(10).keys()].map((n) =>
  samplerImage(`i${n}`, 300, 200 + n, {
    lesions: n % 2 ? [{ label: 0, box: [10, 20, 60 + n, 90], polygon: null, ignore: n === 3 }] : [],
  }),
)
const sampler = createSampler(images, { strategy: 'full', seed: 1, multiple: 32, data: config.data, augment: null })

/** Fills every window with the number of its image and counts what is open. */
function countingReader(fail?: string) {
  const state = { open: 0, most: 0, reads: [] as string[] }
  const reader: WindowReader = {
    async read(id, _window, into) {
      state.reads.push(id)
      state.most = Math.max(state.most, ++state.open)
      await new Promise((resolve) => setImmediate(resolve))
      state.open--
      if (id === fail) throw new Error(`cannot read ${id}`)
      into.fill(Number(id.slice(1)) + 1)
    },
    close: async () => undefined,
  }
  return { state, reader }
}

t.test('batches in order, flat with offsets', async (t) => {
  const { reader } = countingReader()
  const planned = sampler.batches(0, 4, true)
  const loader = loadBatches(sampler, planned, reader, { epoch: 0, ahead: 2 })
  let n = 0
  for await (const { batch, targets, ids, plans } of loader) {
    t.same(
      ids,
      planned[n]!.indices.map((index) => `i${index}`),
    )
    t.same(batch.canvas, planned[n]!.canvas)
    t.same(
      [...batch.sizes],
      plans.flatMap((plan) => plan.size),
    )
    let at = 0
    for (const [i, id] of ids.entries()) {
      const [h, w] = [batch.windows.shapes[2 * i]!, batch.windows.shapes[2 * i + 1]!]
      t.ok(batch.windows.pixels.subarray(at, at + h * w).every((v) => v === Number(id.slice(1)) + 1))
      at += h * w
      const own = targets.boxes.subarray(4 * targets.boxOffsets[i]!, 4 * targets.boxOffsets[i + 1]!)
      t.same([...own], plans[i]!.targets.boxes.flat())
      t.equal(targets.ignoreOffsets[i + 1]! - targets.ignoreOffsets[i]!, id === 'i3' ? 1 : 0)
    }
    t.equal(at, batch.windows.pixels.length)
    t.equal(targets.labels.length, targets.boxOffsets[ids.length])
    n++
  }
  t.equal(n, planned.length)
  t.match(loader.times(), { batches: n })
  await t.rejects(loader[Symbol.asyncIterator]().next(), { code: 'ERR_MAMMO_BUSY' })
})

t.test('reads ahead, but no further than asked', async (t) => {
  const { state, reader } = countingReader()
  const planned = sampler.batches(0, 1, false)
  const iterator = loadBatches(sampler, planned, reader, { epoch: 0, ahead: 3 })[Symbol.asyncIterator]()
  await iterator.next()
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  t.equal(state.reads.length, 4, 'one delivered, three ahead')
  await iterator.next()
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  t.equal(state.reads.length, 5)
  await iterator.return?.()
  t.equal(state.reads.length, 5, 'leaving stops reading')
  t.ok(state.most <= 3)
})

t.test('starts in the middle', async (t) => {
  const { reader } = countingReader()
  const planned = sampler.batches(0, 3, true)
  const whole: string[][] = []
  for await (const { ids } of loadBatches(sampler, planned, reader, { epoch: 0, ahead: 2 })) whole.push(ids)
  const rest: string[][] = []
  for await (const { ids } of loadBatches(sampler, planned, reader, { epoch: 0, ahead: 2, from: 2 })) rest.push(ids)
  t.same(rest, whole.slice(2))
})

t.test('an error appears at its batch', async (t) => {
  const { reader } = countingReader('i6')
  const seen: string[] = []
  const iterate = async () => {
    for await (const { ids } of loadBatches(sampler, sampler.batches(0, 1, false), reader, { epoch: 0, ahead: 4 })) {
      seen.push(...ids)
    }
  }
  await t.rejects(iterate(), { message: 'cannot read i6' })
  t.same(seen, ['i0', 'i1', 'i2', 'i3', 'i4', 'i5'])
})

t.test('aborts, and refuses a queue of no length', async (t) => {
  const { reader } = countingReader()
  const controller = new AbortController()
  const iterate = async () => {
    const options = { epoch: 0, ahead: 2, signal: controller.signal }
    for await (const _ of loadBatches(sampler, sampler.batches(0, 1, false), reader, options)) controller.abort()
  }
  await t.rejects(iterate(), { name: 'AbortError' })
  t.throws(() => loadBatches(sampler, [], reader, { epoch: 0, ahead: 0 }), { code: 'ERR_MAMMO_ARGUMENT' })
})
