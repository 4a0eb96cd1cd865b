// Bad input at the command line, as far as no engine is needed: each case ends with its code, place and remedy on stderr, the documented
// exit code, nothing on stdout, and earlier results as they were, byte for byte. With the engine: test/process/bad-input.test.ts.
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import { packageRoot } from '../../lib/package-root.js'
import { METADATA_KEY } from '../../lib/train/checkpoints.js'
import { writeSafetensors } from '../../lib/weights/safetensors.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { type Coco, cli, type Ended, refused, snapshot, writeCoco } from './bad-input-kit.js'
import { noTinyDisk, onTinyDisk } from './full-disk.js'

const home = t.testdir()
const at = (...names: string[]) => join(home, ...names)

/** `data prepare` of `folder` into a folder that a good dataset was prepared into before. */
const prepareArgs = (folder: string, out: string, ...more: string[]) => [
  ...['data', 'prepare', folder, '--out', out, '--workers', '1', '--quiet', '--patient-pattern', '^(?<patient>.)'],
  ...['--split', 'holdout', '--ratio', '0.5,0.25,0.25', ...more],
]
const good = await writeCoco(at('good'))
const prepared = at('prepared')
t.equal((await cli(...prepareArgs(good, prepared))).code, 0, 'the good dataset is prepared')
const kept = snapshot(prepared)

let folders = 0
async function prepareSpoilt(
  spoil: (coco: Coco) => void,
  spoilFiles: (folder: string) => void = () => undefined,
  ...more: string[]
): Promise<Ended> {
  const folder = await writeCoco(at(`spoilt-${folders++}`), spoil)
  spoilFiles(folder)
  return cli(...prepareArgs(folder, prepared, ...more))
}

/** A case of the dataset: what is spoilt, and the error. */
type DatasetCase = [
  name: string,
  spoil: (coco: Coco) => void,
  spoilFiles: ((folder: string) => void) | undefined,
  code: string,
  message: RegExp,
  where: RegExp,
]
const same = () => undefined
const box = (bbox: unknown) => (coco: Coco) => {
  coco.annotations[1]!['bbox'] = bbox
}
const datasetCases: DatasetCase[] = [
  ['missing image', same, (f) => rmSync(join(f, 'b.png')), 'MANIFEST', /^image b\.png not found$/, /image 1$/],
  [
    ...(['truncated image', same, (f: string) => truncateSync(join(f, 'b.png'), 900)] as const),
    ...(['IMAGE', /got a damaged or foreign file$/, /b\.png$/] as const),
  ],
  [
    ...(['text instead of an image', same, (f: string) => writeFileSync(join(f, 'b.png'), 'no image at all')] as const),
    ...(['DICOM', /^expected a DICOM, PNG, JPEG, TIFF or PGM file/, /^b\.png$/] as const),
  ],
  [
    'annotation without image',
    (coco) => {
      coco.annotations[1]!['image_id'] = 77
    },
    ...([
      undefined,
      'ANNOTATION',
      /^annotation 2 has image_id 77, which no image has$/,
      /^annotations\.json$/,
    ] as const),
  ],
  [
    'box outside the image',
    box([200, 40, 20, 24]),
    undefined,
    'ANNOTATION',
    /wholly outside .* 96x128/,
    /annotation 2$/,
  ],
  ['box of zero width', box([10, 40, 0, 24]), undefined, 'ANNOTATION', /has width 0$/, /annotation 2$/],
  ['box of negative height', box([10, 40, 20, -3]), undefined, 'ANNOTATION', /has height -3$/, /annotation 2$/],
  // JSON has no NaN: JSON.stringify writes null, as Python writes NaN.
  ['box of NaN', box([Number.NaN, 40, 20, 24]), undefined, 'ANNOTATION', /must have bbox/, /^annotations\.json$/],
  ['box of three numbers', box([10, 40, 20]), undefined, 'ANNOTATION', /must have bbox/, /^annotations\.json$/],
  [
    'unknown class',
    (coco) => {
      coco.annotations[1]!['category_id'] = 9
    },
    ...([undefined, 'ANNOTATION', /category_id 9, known are 1$/, /^annotations\.json$/] as const),
  ],
  [
    'image of another size than annotated',
    (coco) => {
      coco.images[1]!['width'] = 100
    },
    ...([undefined, 'MANIFEST', /^annotation says 100x128, file decodes to 96x128$/, /image 1, b\.png$/] as const),
  ],
  [
    'entries that are null',
    (coco) => {
      coco.images[1] = null as never
    },
    ...([undefined, 'ANNOTATION', /^2 problems\n.*image 1 has no integer id/s, /spoilt-\d+$/] as const),
  ],
  [
    ...(['annotation file cut short', same, (f: string) => truncateSync(join(f, 'annotations.json'), 100)] as const),
    ...(['ANNOTATION', /^expected a JSON file/, /annotations\.json:1$/] as const),
  ],
]
for (const [name, spoil, spoilFiles, code, message, where] of datasetCases) {
  t.test(`data prepare: ${name}`, async (t) => {
    refused(t, await prepareSpoilt(spoil, spoilFiles), { exit: 3, code, message, where })
    t.strictSame(snapshot(prepared), kept, 'the folder prepared before')
  })
}

t.test('data prepare: what a CSV says wrong, line by line', async (t) => {
  const folder = at('csv')
  mkdirSync(folder)
  for (const name of ['a', 'b']) copyFileSync(join(good, `${name}.png`), join(folder, `${name}.png`))
  writeFileSync(join(folder, 'classes.csv'), 'mass,0\n')
  const cases: [string, RegExp, string?][] = [
    ['a.png,1,2,30,40,tumour', /^class "tumour" is unknown; known: mass$/],
    ['a.png,1,nan,30,40,mass', /^cell y1 must be a number, is "nan"$/],
    ['a.png,5,2,5,40,mass', /^x2 \(5\) must be greater than x1 \(5\)$/],
    ['a.png,500,2,600,40,mass', /wholly outside/],
    ['nowhere.png,1,2,30,40,mass', /^image nowhere\.png not found$/, 'MANIFEST'],
  ]
  for (const [row, message, code = 'ANNOTATION'] of cases) {
    writeFileSync(join(folder, 'annotations.csv'), `b.png,,,,,\n${row}\n`)
    const ended = await cli('data', 'prepare', folder, '--out', prepared, '--quiet')
    refused(t, ended, { exit: 3, code, message, where: /^annotations\.csv:2$/ })
  }
  t.strictSame(snapshot(prepared), kept)
})

t.test('data prepare never takes the place of something else', async (t) => {
  const file = at('notes.txt')
  writeFileSync(file, 'mine')
  refused(t, await cli(...prepareArgs(good, file)), { exit: 2, code: 'ARGUMENT', message: /got a file$/, where: file })
  refused(t, await cli(...prepareArgs(good, join(file, 'below'))), { exit: 2, code: 'ARGUMENT', where: file })
  t.equal(readFileSync(file, 'utf8'), 'mine')
  const foreign = at('foreign')
  mkdirSync(foreign)
  writeFileSync(join(foreign, 'thesis.tex'), 'mine too')
  const ended = await cli(...prepareArgs(good, foreign))
  refused(t, ended, { exit: 3, code: 'MANIFEST', message: /a folder with other files$/, where: foreign })
  refused(t, await cli(...prepareArgs(good, prepared, '--no-crop')), { exit: 3, code: 'MANIFEST', where: prepared })
  t.strictSame(snapshot(prepared), kept)
})

t.test('a prepared folder that was damaged is refused by whoever opens it', async (t) => {
  const folder = at('damaged')
  cpSync(prepared, folder, { recursive: true })
  const { split, manifest, pixels } = {
    split: join(folder, 'split.json'),
    manifest: join(folder, 'manifest.jsonl'),
    pixels: join(folder, Object.keys(kept).find((name) => name.endsWith('.u16'))!),
  }
  const train = () =>
    cli('train', '--no-build', '--quiet', '--set', `data.root=${folder}`, '--set', `run.root=${at('none')}`)
  for (const file of [split, manifest, pixels]) {
    truncateSync(file, 10)
    refused(t, await train(), { exit: 3, code: 'MANIFEST', where: new RegExp(basename(file)) })
    copyFileSync(file.replace(folder, prepared), file)
  }
  rmSync(join(folder, 'prepared.json'))
  refused(t, await train(), { exit: 3, code: 'MANIFEST', where: folder })
})

t.test('configurations: unknown keys, impossible combinations, files that are none', async (t) => {
  const file = at('config.yaml')
  const show = (text: string) => {
    writeFileSync(file, text)
    return cli('config', 'show', '--config', file)
  }
  const both = await show('loss:\n  gama: 3\n  alpha: 9\n')
  refused(t, both, { exit: 2, code: 'CONFIG', message: /^2 problems in .*config\.yaml$/m })
  t.match(both.err, /line 2, column 3: unknown key "loss\.gama"; did you mean "loss\.gamma"\?/)
  t.match(both.err, /line 3, column 3: loss\.alpha is 9, expected a number <= 1/)
  const combination = await show('model:\n  norm: frozen\n  levels: [3, 5]\n')
  refused(t, combination, { exit: 2, code: 'CONFIG' })
  t.match(combination.err, /line 2, column 3: model\.norm is frozen but model\.weights is null/)
  t.match(combination.err, /line 3, column 3: model\.levels is \[3,5\], expected contiguous/)
  const half = await show('loss: [1\nfoo')
  refused(t, half, { exit: 2, code: 'CONFIG', message: /line 2, column 1/ })
  refused(t, await show('- 1\n'), { exit: 2, code: 'CONFIG', message: /expected a mapping of sections/ })
  const missing = await cli('config', 'show', '--config', at('none.yaml'))
  refused(t, missing, { exit: 2, code: 'CONFIG', message: /none\.yaml\n {2}cannot read .*ENOENT/ })
  for (const words of [['show'], ['init']]) {
    const ended = await cli('config', ...words, '--preset', 'smok')
    refused(t, ended, { exit: 2, code: 'CONFIG', message: /unknown preset "smok"; did you mean "smoke"\?/ })
  }
  const set = await cli('train', '--no-build', '--set', 'run.device=gpu')
  refused(t, set, { exit: 2, code: 'CONFIG', message: /run\.device is "gpu"/ })
})

t.test('train: nothing to train on, nothing to go on with', async (t) => {
  const train = (...more: string[]) => cli('train', '--no-build', '--set', `run.root=${at('none')}`, ...more)
  const nowhere = at('nowhere')
  refused(t, await train(), { exit: 2, code: 'CONFIG', message: /data\.root is null/ })
  refused(t, await train('--set', `data.root=${nowhere}`), { exit: 3, code: 'MANIFEST', where: nowhere })
  const resume = { exit: 2, code: 'ARGUMENT', message: /^expected a run folder/ }
  refused(t, await train('--resume', nowhere), { ...resume, where: nowhere })
  refused(t, await train('--resume', good), { ...resume, where: good })
  refused(t, await train('smoke', '--resume', nowhere), { exit: 2, code: 'ARGUMENT', message: /--resume alone/ })
  const broken = at('broken-run')
  mkdirSync(broken)
  writeFileSync(join(broken, 'run.json'), '{')
  refused(t, await cli('info', broken), { exit: 2, code: 'ARGUMENT', where: join(broken, 'run.json') })
  refused(t, await train('--resume', broken), { exit: 2, code: 'CONFIG', message: /config\.resolved\.yaml/ })
  const data = await preparedFixture(at('fixture'), { train: 2, val: 1, test: 1 })
  const other = await train('--set', `data.root=${data}`, '--set', 'data.classes=[tumour]')
  const message = /^expected training images with lesions of tumour, got none; classes of the dataset: mass$/
  refused(t, other, { exit: 3, code: 'ANNOTATION', message, where: data })
  refused(t, await train('--set', `data.root=${data}`, '--fold', '3'), { exit: 3, code: 'MANIFEST', message: /fold 3/ })
})

t.test('checkpoints: no file, another file, cut short, another version', async (t) => {
  const nowhere = at('nowhere')
  for (const words of [['export'], ['evaluate']]) {
    const ended = await cli(...words, nowhere, '--no-build')
    refused(t, ended, { exit: 2, code: 'ARGUMENT', message: /nothing exists there$/, where: nowhere })
    const folder = await cli(...words, good, '--no-build')
    refused(t, folder, { exit: 2, code: 'ARGUMENT', message: /found none$/, where: join(good, 'checkpoints') })
  }
  const file = at('some.safetensors')
  const tensors = new Map([['w', { shape: [200], data: new Float32Array(200) }]])
  const all = async (message: RegExp) => {
    const before = readFileSync(file)
    for (const words of [['info'], ['export', '--no-build'], ['evaluate', '--no-build']]) {
      refused(t, await cli(...words, file), { exit: 4, code: 'CHECKPOINT', message, where: file })
    }
    t.ok(readFileSync(file).equals(before))
  }
  writeFileSync(file, 'no checkpoint')
  await all(/do not give the length of a header/)
  await writeSafetensors(file, tensors)
  await all(/^expected a checkpoint of format mammo-retinanet\/checkpoint@1, got none$/)
  await writeSafetensors(file, tensors, { [METADATA_KEY]: '{"format":"mammo-retinanet/checkpoint@99"}' })
  await all(/checkpoint@1, got mammo-retinanet\/checkpoint@99$/)
  truncateSync(file, 300)
  await all(/tensor "w" ends beyond the file/)
})

const model = at('model', 'model.onnx')
await writeManifest(await writeModel(tinyExport(model)), unverifiedRecord('test'))
const image = join(good, 'a.png')

t.test('ONNX models: no manifest, cut short, another version', async (t) => {
  const manifest = JSON.parse(readFileSync(at('model', 'model.manifest.json'), 'utf8'))
  const other = at('other.onnx')
  const sidecar = at('other.manifest.json')
  const out = at('no-predictions')
  const all = async (code: string, message: RegExp, where: string) => {
    refused(t, await cli('predict', other, image, '--out', out), { exit: 3, code, message, where })
    const scored = await cli('evaluate', other, '--set', `data.root=${prepared}`, '--quiet')
    refused(t, scored, { exit: 3, code, message, where })
  }
  copyFileSync(model, other)
  await all('MODEL_MANIFEST', /^expected a manifest beside the model/, sidecar)
  writeFileSync(sidecar, '{')
  await all('MODEL_MANIFEST', /^expected JSON/, sidecar)
  writeFileSync(sidecar, JSON.stringify({ ...manifest, schema: 'mammo-retinanet/model@99' }))
  await all('MODEL_MANIFEST', /^expected mammo-retinanet\/model@1/, sidecar)
  writeFileSync(sidecar, JSON.stringify({ ...manifest, file: { ...manifest.file, opset: 21 } }))
  await all('MODEL_MANIFEST', /^expected opset 17, got 21$/, other)
  writeFileSync(sidecar, JSON.stringify(manifest))
  truncateSync(other, manifest.file.bytes - 1000)
  await all('MODEL_MANIFEST', /^expected a model with sha256/, other)
})

t.test('predict: what is no image is named, the others are written, earlier files stay', async (t) => {
  const out = at('predictions')
  const predict = (...more: string[]) => cli('predict', model, '--out', out, '--output', 'json', '--quiet', ...more)
  t.equal((await predict(image)).code, 0)
  const before = snapshot(out)
  const nowhere = at('nowhere.png')
  refused(t, await predict(nowhere), { exit: 2, code: 'ARGUMENT', message: /nothing exists there$/, where: nowhere })
  const half = at('half.png')
  writeFileSync(half, readFileSync(image).subarray(0, 900))
  const mixed = await predict(half, join(good, 'b.png'))
  t.match(mixed, {
    code: 3,
    out: /1 images, \d+ detections, 1 rejected.*\n {2}rejected .*half\.png: ERR_MAMMO_IMAGE\n$/,
  })
  t.match(mixed.err, /^error ERR_MAMMO_IMAGE: .*\n {2}where: .*half\.png\n {2}fix: /)
  t.equal((await predict(half, join(good, 'b.png'), '--allow-failures', '1')).code, 0)
  const after = snapshot(out)
  t.strictSame(Object.keys(after), ['a.json', 'b.json'])
  t.equal(after['a.json'], before['a.json'])
  const usage = { exit: 2, code: 'ARGUMENT' }
  refused(t, await predict(image, '--threshold', '7'), usage)
  refused(t, await predict(image, '--output', 'bmp'), usage)
  refused(t, await cli('predict', model, image, '--out', half), { ...usage, where: half })
  t.match(await predict(image, '--workers', '0'), { code: 2, out: '', err: /expected an integer of at least 1, got 0/ })
  const annotations = at('empty.json')
  writeFileSync(annotations, '{"images":[]}')
  const drawn = await predict(image, '--annotations', annotations)
  refused(t, drawn, { exit: 3, code: 'ANNOTATION', where: annotations })
  const list = at('list.jsonl')
  writeFileSync(list, '{"root":"."}\n{"id":"../escaped","path":"good/a.png"}\n')
  refused(t, await predict(list), { exit: 3, code: 'MANIFEST', where: `${list}:2` })
  t.strictSame(snapshot(out), after)
})

t.test('predict: images of one name do not share a result file', async (t) => {
  const out = at('twins')
  const other = await writeCoco(at('twin'))
  const ended = await cli('predict', model, image, join(other, 'a.png'), '--out', out, '--output', 'json', '--quiet')
  t.equal(ended.code, 0)
  t.strictSame(Object.keys(snapshot(out)), ['a-2.json', 'a.json'])
})

t.test('evaluate: no data, foreign predictions, unknown metrics, a limit that is not reached', async (t) => {
  refused(t, await cli('evaluate', model, '--quiet'), { exit: 2, code: 'CONFIG', message: /data\.root is null/ })
  const nowhere = at('nowhere')
  const evaluate = (target: string, ...more: string[]) =>
    cli('evaluate', target, '--set', `data.root=${prepared}`, '--bootstrap', '0', '--quiet', ...more)
  const elsewhere = await evaluate(model, '--set', `data.root=${nowhere}`)
  refused(t, elsewhere, { exit: 3, code: 'MANIFEST', where: nowhere })
  const file = at('predictions.json')
  for (const text of ['{nonsense', '[{"image_id":1}]', '{"images":[null],"categories":3,"annotations":[]}', 'null']) {
    writeFileSync(file, text)
    refused(t, await evaluate(file), { exit: 3, code: 'ANNOTATION', where: new RegExp(basename(file)) })
  }
  const limit = { exit: 2, code: 'ARGUMENT', message: /^--fail-under/ }
  refused(t, await evaluate(model, '--fail-under', 'AP50'), limit)
  refused(t, await evaluate(model, '--fail-under', 'AP51=0.2'), limit)
  const below = await evaluate(model, '--fail-under', 'AP50=2')
  t.match(below, { code: 6, out: /AP50/, err: /^check failed: AP50 is .*, expected at least 2\n$/ })
  t.strictSame(snapshot(prepared), kept)
})

t.test(
  'a disk without space: exit 4, and what was written before stays',
  { skip: noTinyDisk(at('probe')) },
  async (t) => {
    const disk = at('disk')
    const out = join(disk, 'out')
    t.test('data prepare, known before it starts', async (t) => {
      const again = prepareArgs(good, join(disk, 'again'))
      const { first, second, before, after } = onTinyDisk('512k', {
        ...{ disk, kept: 'out', spare: 2 },
        ...{ first: prepareArgs(good, out), second: again },
      })
      t.equal(first.code, 0, first.err)
      refused(t, second, {
        exit: 4,
        code: 'DISK_FULL',
        message: /^expected 0\.06 MiB for 4 images, got 0\.01 MiB free$/,
        where: /again$/,
      })
      t.ok(Object.keys(before).length > 4)
      t.strictSame(after, before)
    })
    // The lock of the results takes a page; the journal gets back the one of the first run.
    for (const [when, spare, where] of [
      ['before it starts', 0, 'journal.jsonl.lock'],
      ['in the middle', 1, 'b.json'],
    ] as const)
      t.test(`predict, ${when}`, async (t) => {
        const predict = (name: string) => [
          'predict',
          model,
          join(good, name),
          '--out',
          out,
          '--output',
          'json',
          '--quiet',
        ]
        const { first, second, before, after } = onTinyDisk('512k', {
          ...{ disk, kept: 'out', spare },
          ...{ first: predict('a.png'), second: predict('b.png') },
        })
        t.equal(first.code, 0, first.err)
        refused(t, second, { exit: 4, code: 'DISK_FULL', where: join(out, where) })
        t.strictSame(Object.keys(before), ['a.json'])
        t.strictSame(after, before)
      })
  },
)

/** A copy of the installed package without its build, in which the addon can be what a test wants. */
function packageCopy(t: Test): { addon: string; run: (...argv: string[]) => Ended } {
  const root = t.testdir()
  const from = packageRoot()
  for (const name of ['package.json', 'bin', join('dist', 'lib')])
    cpSync(join(from, name), join(root, name), { recursive: true })
  symlinkSync(join(from, 'node_modules'), join(root, 'node_modules'))
  const addon = join(root, 'build', 'native', 'Release', 'mammo.node')
  const env = { ...process.env }
  delete env['NODE_OPTIONS']
  const run = (...argv: string[]): Ended => {
    const script = join(root, 'bin', 'mammo-retinanet.js')
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...argv], { encoding: 'utf8', env })
    return { code: status ?? -1, out: stdout, err: stderr }
  }
  return { addon, run }
}

t.test('the addon is missing, or is none that opens', async (t) => {
  const { addon, run } = packageCopy(t)
  const data = await preparedFixture(at('addon-fixture'), { train: 2, val: 1, test: 1 })
  const runs = at('addon-runs')
  const train = () => run('train', '--no-build', '--quiet', '--set', `data.root=${data}`, '--set', `run.root=${runs}`)
  for (const ended of [train(), run('export', good, '--no-build'), run('demo', '--no-build')]) {
    refused(t, ended, { exit: 4, code: 'BINDING_MISSING', message: /--no-build was given$/, where: addon })
  }
  t.equal(run('predict', model, image, '--out', at('without-addon'), '--quiet').code, 0, 'prediction needs none')
  mkdirSync(dirname(addon), { recursive: true })
  writeFileSync(addon, 'built for another machine')
  const load = {
    exit: 4,
    code: 'BINDING_LOAD',
    message: /cannot be opened: .*\n {2}1\. the file is truncated/,
    where: addon,
  }
  refused(t, train(), load)
  writeFileSync(join(dirname(addon), 'build-info.json'), '{"libtorch":{"path":"/nowhere/libtorch-2.9"}}')
  const gone =
    /\n {2}1\. the LibTorch it was built with is gone \(\/nowhere\/libtorch-2\.9\): `mammo-retinanet build --clean`/
  refused(t, train(), { ...load, message: gone })
  t.match(run('doctor'), { code: 4, out: /mammo-retinanet build/ })
  t.throws(() => snapshot(runs), { code: 'ENOENT' }, 'no run folder was made')
})
