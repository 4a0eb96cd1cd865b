// The commands that look at data, on phantoms and on a small faulty set, from synthesis to a divided folder.
import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import type { Io } from '../../lib/cli/io.js'
import { runCli } from '../../lib/cli/main.js'
import { thinParts } from '../../lib/cli/split-options.js'
import type { Split } from '../../lib/data/split.js'
import { record, writeImages } from '../data/fixtures.js'

async function run(...argv: string[]) {
  let [out, err] = ['', '']
  const io: Io = {
    stdout: (text) => {
      out += text
    },
    stderr: (text) => {
      err += text
    },
    isTty: false,
    columns: 100,
    env: {},
  }
  return { code: await runCli(argv, io), out, err }
}

t.test('phantoms: synth, check, prepare, stats, split, view, anchors', { timeout: 240_000 }, async (t) => {
  const dir = t.testdir()
  const at = (name: string) => join(dir, name)
  const made = await run(
    'data',
    'synth',
    '--out',
    at('ph'),
    '--count',
    '12',
    '--size',
    '416x320',
    '--seed',
    '1',
    '--json',
  )
  t.equal(made.code, 0, made.err)
  const { images, masses } = JSON.parse(made.out)
  t.equal(images, 12)
  t.ok(masses > 0)

  const check = await run('data', 'check', at('ph'), '--out', at('check.html'), '--json')
  t.equal(check.code, 0)
  const report = JSON.parse(check.out)
  t.equal(report.counts.lesionClass.mass, masses)
  t.equal(report.anchors.coverage.boxes.length, masses)
  t.equal(
    report.sizeHistogram.counts.reduce((a: number, b: number) => a + b),
    masses,
  )
  t.match(await readFile(at('check.html'), 'utf8'), 'Lesion sizes')
  t.equal((await run('data', 'check', at('ph'), '--strict')).code, 3, 'a set of 12 is incomplete, a warning')

  const prepared = await run(
    'data',
    'prepare',
    at('ph'),
    '--out',
    at('p'),
    '--folds',
    '3',
    '--workers',
    '1',
    '--write-labels',
    'coco,csv',
    '--crops',
    '--malignant-from',
    '4',
    '--set',
    'data.patch.size=128',
  )
  t.equal(prepared.code, 0, prepared.err)
  const labels = JSON.parse(await readFile(join(at('p'), 'labels', 'coco', 'annotations.json'), 'utf8'))
  t.equal(labels.images.length, 12)
  t.match(prepared.out, /\d+ patches in .*crops: \d+ of lesions/)
  const crops = JSON.parse(await readFile(join(at('p'), 'crops', 'annotations.json'), 'utf8'))
  t.ok(crops.images.length > 12)
  t.match(await readFile(join(at('p'), 'manifest.jsonl'), 'utf8'), '"malignantFrom":"4"')
  t.ok(existsSync(join(at('p'), 'labels', 'keras-csv', 'annotations.csv')))

  const stats = await run('data', 'stats', at('p'), '--plots', at('plots'))
  t.equal(stats.code, 0)
  t.match(stats.out, /12 images of \d+ patients/)
  t.match(stats.out, /intensities of non-zero pixels: mean \d+/)
  t.same((await readdir(at('plots'))).sort(), ['intensities.svg', 'lesion-sizes.svg'])
  t.match((await run('data', 'stats', at('ph'))).out, 'known once the dataset is prepared')

  const split = await run('data', 'split', at('p'), '--ratio', '0.5,0.25,0.25', '--seed', '3')
  t.equal(split.code, 0, split.err)
  t.match(split.out, 'proof: 0 patients in more than one part, in 1 fold')
  const leaky = await run('data', 'split', at('p'), '--split', 'image-wise')
  t.equal(leaky.code, 0)
  t.match(leaky.out, /LEAK: \d+ patients/)
  const refused = await run('data', 'check', at('p'))
  t.equal(refused.code, 3, 'the leak of the image-wise split is an error of the check')
  t.match(refused.out, 'leak error leak/patient')

  await run('data', 'split', at('p'), '--ratio', '1,0,0')
  const patches = [
    '--set',
    'train.strategy=crops',
    '--set',
    'data.patch.size=128',
    '--set',
    'data.patch.positivesPerLesion=1',
  ]
  const view = await run('data', 'view', at('p'), '--out', at('v'), '--augment', '--anchors', ...patches, '--json')
  t.equal(view.code, 0, view.err)
  t.ok(JSON.parse(view.out).paths.length >= masses)
  t.match(await run('data', 'view', at('p'), '--out', at('v'), '--ids', 'nobody'), {
    code: 2,
    err: 'expected ids of prepared images',
  })

  const anchors = await run('anchors', 'report', at('p'), '--iou', '0.4')
  t.match(anchors.out, `${masses} lesions on`)
  t.match(anchors.out, 'positive from IoU 0.4')
  t.match(await run('anchors', 'report', at('p'), '--iou', '2'), { code: 2, err: '--iou' })
  const found = await run('anchors', 'optimize', at('p'), '--out', at('anchors.yaml'), '--top', '2', '--json')
  t.equal(found.code, 0, found.err)
  const search = JSON.parse(found.out)
  t.equal(search.optimised.length, 2)
  t.ok(search.optimised[0].value <= search.configured.value)
  t.ok(search.optimised[0].value <= search.optimised[1].value)
  const fragment = parse(await readFile(at('anchors.yaml'), 'utf8'))
  t.equal(fragment.anchors.ratios.length, 3)
  t.equal((await run('config', 'show', '--config', at('anchors.yaml'))).code, 0, 'the fragment is a configuration')
  t.match(
    (await run('anchors', 'optimize', at('p'))).out,
    /configured[\s\S]*optimised, seed 0[\s\S]*train both[\s\S]*ratios:/,
  )
})

t.test('a faulty set exits 3; its plan, read back, makes it good', async (t) => {
  const dir = t.testdir()
  const records = ['a', 'b', 'c'].map((id) => record(id))
  await writeImages(dir, records)
  const images = records.map(({ path, width, height }, i) => ({ id: i + 1, file_name: path, width, height }))
  const box = (id: number, image: number, bbox: number[]) => ({ id, image_id: image, category_id: 1, bbox, iscrowd: 0 })
  const annotations = [box(1, 1, [10, 40, 20, 20]), box(2, 2, [10, 40, 0, 20]), box(3, 3, [10, 50, 20, 30])]
  const coco = { images, annotations, categories: [{ id: 1, name: 'mass' }] }
  await writeFile(join(dir, 'annotations.json'), JSON.stringify(coco))
  const pattern = ['--patient-pattern', '(?<patient>[a-c])\\.png$']
  const plan = join(dir, 'plan.txt')
  const check = await run('data', 'check', dir, ...pattern, '--fix-plan', plan)
  t.equal(check.code, 3)
  t.match(check.out, /error +box\/empty/)
  t.match(await readFile(plan, 'utf8'), /# exclude box\/empty: .*\ncoco\/b#2\n/)
  t.equal((await run('data', 'prepare', dir, ...pattern, '--out', join(dir, 'p'), '--quiet')).code, 3)
  const mended = await run('data', 'check', dir, ...pattern, '--exclude-from', plan)
  t.equal(mended.code, 0, mended.out)
  t.match(await run('data', 'check', dir, '--exclude-from', join(dir, 'none')), { code: 2, err: '--exclude-from' })
})

t.test('options are checked before anything is read', async (t) => {
  t.match(await run('data', 'check', 'x', '--adapter', 'kitti'), { code: 2, err: 'come in as COCO JSON' })
  t.match(await run('data', 'split', 'x', '--ratio', '0.5,0.5'), { code: 2, err: 'expected three shares' })
  t.match(await run('data', 'split', 'x', '--stratify', 'age'), { code: 2, err: 'expected mass, density' })
  t.match(await run('data', 'synth', '--out', 'x', '--size', 'big'), { code: 2, err: 'rows x columns' })
  t.match(await run('data', 'prepare', 'x', '--out', 'y', '--write-labels', 'kitti'), {
    code: 2,
    err: 'coco, csv, voc or yolo',
  })
  t.match(await run('data', 'prepare', 'x', '--out', 'y', '--hash-ids'), { code: 2, err: 'MAMMO_SITE_KEY' })
  t.match(await run('data', 'view', 'x'), { code: 2, err: '--out' })
})

t.test('what a newcomer gets wrong is said in one sentence', async (t) => {
  const dir = t.testdir({ demo: {}, 'net.safetensors': '' })
  const at = (name: string) => join(dir, name)
  t.match(await run('data', 'prepare', at('none'), '--out', at('p')), { code: 3, err: 'nothing exists there' })
  const synth = (...more: string[]) => run('data', 'synth', '--out', at('ph'), '--size', '128x96', '--quiet', ...more)
  t.equal((await synth('--count', '3')).code, 0)
  const table = await readFile(at('ph/INbreast.csv'), 'utf8')
  t.match(await synth('--count', '2'), { code: 2, err: 'without other images, found 1' })
  t.match(await synth('--count', '3', '--seed', '1'), { code: 2, err: 'without other images, found 3' })
  t.equal(await readFile(at('ph/INbreast.csv'), 'utf8'), table, 'the table still names every image')
  t.equal((await synth('--count', '4')).code, 0, 'the same set grows')

  t.match(await run('predict', at('none.onnx'), at('ph'), '--out', at('o')), { code: 3, err: 'nothing exists there' })
  t.match(await run('predict', at('net.safetensors'), at('ph'), '--out', at('o')), { code: 3, err: 'got a checkpoint' })
  t.match(await run('predict', at('demo'), at('ph'), '--out', at('o')), { code: 3, err: 'got a folder' })

  const here = process.cwd()
  t.teardown(() => process.chdir(here))
  process.chdir(dir)
  t.match(await run('info', 'demo'), { code: 0, out: 'preset demo' }, 'a folder of its name does not hide a preset')
  const [image] = await readdir(at('ph/AllDICOMs'))
  t.match(
    await run('info', at(`ph/AllDICOMs/${image}`)),
    { code: 0, out: /width +96/ },
    'secondary capture can be looked at',
  )
  t.match((await run('train', '--help')).out, '--set', 'the help of a command names the options of all')
})

t.test('parts without images or lesions are told', async (t) => {
  const counts = (images: number, lesions: number) => ({ images, patients: images, positive: lesions, lesions })
  const parts = { train: counts(4, 2), val: counts(2, 0), test: counts(0, 0) }
  const split = (ratio: [number, number, number] | null) => ({ ratio }) as unknown as Split
  t.strictSame(thinParts({ split: split([0.5, 0.25, 0.25]), counts: [parts] }), [
    'val has no lesion: AP and FROC mean nothing there; try another --seed',
    'test has no image: too few patients for these shares',
  ])
  t.strictSame(thinParts({ split: split([0.7, 0.3, 0]), counts: [{ ...parts, val: counts(2, 1) }] }), [])
  t.match(thinParts({ split: split(null), counts: [{ ...parts, test: counts(1, 1) }, parts] }), [
    /^fold 0: val/,
    /^fold 1: val/,
    /^fold 1: test/,
  ])
})
