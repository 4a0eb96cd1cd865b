import t from 'tap'
import { partCounts, type SplitImage, splitImages } from '../../lib/data/split.js'
import { randomStream } from '../../lib/random.js'

/** INbreast's group sizes and mass counts (datasets spec 2.1) with random densities and positive patients. */
function inbreastLike(seed: number): SplitImage[] {
  const random = randomStream(seed, 'split-test')
  const sizes = [...new Array(25).fill(2), 3, ...new Array(75).fill(4), 7, ...new Array(5).fill(8), 10]
  const images: SplitImage[] = []
  for (const [p, size] of sizes.entries()) {
    const density = 'ABCD'[random.integer(4)]!
    for (let i = 0; i < size; i++) {
      images.push({ id: `${p}/${i}`, patient: `p${p}`, split: null, density, lesions: 0, annotated: true })
    }
  }
  let positive = 0
  for (const p of random.shuffle([...sizes.keys()])) {
    const own = images.filter((image) => image.patient === `p${p}`).slice(0, 2)
    for (const image of own) if (positive < 107) image.lesions = ++positive === 1 ? 3 : positive <= 8 ? 2 : 1
  }
  return images
}

t.test('k-fold on 100 seeds: no shared patient, every image tested once, balanced folds', async (t) => {
  const bounds = { images: [78, 86], positive: [18, 25], lesions: [20, 27] }
  let faults = 0
  for (let seed = 0; seed < 100; seed++) {
    const images = inbreastLike(seed)
    const { folds } = splitImages(images, { method: 'kfold', seed, folds: 5 })
    const tested = folds.flatMap((fold) => fold.test)
    if (tested.length !== 410 || new Set(tested).size !== 410) faults++
    for (const [k, fold] of folds.entries()) {
      if (JSON.stringify(fold.val) !== JSON.stringify(folds[(k + 1) % 5]!.test)) faults++
      if (sharedPatients(fold, images) !== 0) faults++
      const counts = partCounts(fold, images).test
      for (const key of ['images', 'positive', 'lesions'] as const) {
        if (counts[key] < bounds[key][0]! || counts[key] > bounds[key][1]!) faults++
      }
    }
  }
  t.equal(faults, 0)
})

// No split can be finer than its largest patient: that one's share is the bound where it is above 3 points.
t.test('hold-out on 100 seeds: no shared patient, shares within 3 points or the largest patient', async (t) => {
  let faults = 0
  for (let seed = 0; seed < 100; seed++) {
    const images = inbreastLike(seed)
    const fold = splitImages(images, { method: 'holdout', seed }).folds[0]!
    if (sharedPatients(fold, images) !== 0) faults++
    const counts = partCounts(fold, images)
    const lesions = new Map<string, number>()
    for (const { patient, lesions: n } of images) lesions.set(patient, (lesions.get(patient) ?? 0) + n)
    const largest = Math.max(...lesions.values()) / 116
    for (const [part, share] of [
      ['train', 0.7],
      ['val', 0.15],
      ['test', 0.15],
    ] as const) {
      if (Math.abs(counts[part].images / 410 - share) > 0.03) faults++
      if (Math.abs(counts[part].lesions / 116 - share) > Math.max(0.03, largest)) faults++
    }
  }
  t.equal(faults, 0)
})

function sharedPatients(fold: { train: string[]; val: string[]; test: string[] }, images: SplitImage[]): number {
  const patient = new Map(images.map((image) => [image.id, image.patient]))
  const sets = [fold.train, fold.val, fold.test].map((ids) => new Set(ids.map((id) => patient.get(id)!)))
  let shared = 0
  for (let a = 0; a < 3; a++) for (let b = a + 1; b < 3; b++) for (const p of sets[a]!) if (sets[b]!.has(p)) shared++
  return shared
}

t.test('deterministic by seed, independent of the order of images', async (t) => {
  const images = inbreastLike(1)
  const first = splitImages(images, { method: 'holdout', seed: 7 })
  t.same(splitImages([...images].reverse(), { method: 'holdout', seed: 7 }), first)
  t.notSame(splitImages(images, { method: 'holdout', seed: 8 }).folds, first.folds)
})

t.test('official parts are kept, any test membership wins, val is cut from train by patient', async (t) => {
  const images: SplitImage[] = Array.from({ length: 60 }, (_, i) => ({
    id: `i${String(i).padStart(2, '0')}`,
    patient: `p${i >> 1}`,
    split: i < 40 ? 'train' : 'test',
    density: null,
    lesions: 1,
    annotated: true,
  }))
  images[39]!.split = 'test'
  const split = splitImages(images, { seed: 3 })
  t.equal(split.method, 'official')
  const { train, val, test } = split.folds[0]!
  t.same(
    test,
    images.slice(38).map((image) => image.id),
  )
  t.equal(train.length + val.length, 38)
  t.ok(val.length >= 4 && val.length <= 10)
  t.equal(sharedPatients(split.folds[0]!, images), 0)
})

t.test('unannotated images are in no part', async (t) => {
  const images = inbreastLike(2)
  images[5]!.annotated = false
  const split = splitImages(images)
  t.same(split.unused, [images[5]!.id])
  t.notOk(split.folds.some((fold) => [...fold.train, ...fold.val, ...fold.test].includes(images[5]!.id)))
})

t.test('the image-wise split shares patients, as the MSc project did', async (t) => {
  const images = inbreastLike(0)
  const fold = splitImages(images, { method: 'image-wise', ratio: [262 / 410, 87 / 410, 61 / 410] }).folds[0]!
  t.same([fold.train.length, fold.val.length, fold.test.length], [262, 87, 61])
  t.ok(sharedPatients(fold, images) > 30)
})

t.test('impossible requests are refused', async (t) => {
  const images = inbreastLike(0)
  t.throws(() => splitImages(images, { ratio: [0.5, 0.1, 0.1] }), { code: 'ERR_MAMMO_ARGUMENT' })
  t.throws(() => splitImages(images.slice(0, 4), { method: 'kfold', folds: 5 }), { code: 'ERR_MAMMO_ARGUMENT' })
  t.throws(() => splitImages(images, { method: 'kfold', folds: 2 }), { message: /expected 3 to/ })
  t.throws(() => splitImages(images, { method: 'official' }), { code: 'ERR_MAMMO_ARGUMENT' })
})
