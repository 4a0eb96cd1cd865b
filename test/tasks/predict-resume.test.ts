// `predict` over many files: tiles and mirrored copies by option, all outputs in one run, resuming after a stop, shards that merge to
// the unsharded result.
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { runCli } from '../../lib/cli/main.js'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import type { Prediction } from '../../lib/predict/results.js'
import { OUTPUTS } from '../../lib/tasks/names.js'
import { predict } from '../../lib/tasks/predict.js'
import { parseShard } from '../../lib/tasks/predict-inputs.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { testImage } from '../onnx/tiny-model.js'
import { mammogram, PLAIN_PATIENT } from '../predict/dicom/studies.js'

async function setting(t: Test, images = 6): Promise<{ root: string; model: string; input: string; out: string }> {
  const root = t.testdir({})
  const model = join(root, 'model.onnx')
  await writeManifest(await writeModel(tinyExport(model)), unverifiedRecord('test'))
  const input = join(root, 'in')
  mkdirSync(input)
  for (let i = 0; i < images; i++) {
    const pixels = testImage(140 + 4 * i, 150)
    writeFileSync(join(input, `film${i}.png`), await encodeGrey16Png(pixels, 150, 140 + 4 * i))
  }
  return { root, model, input, out: join(root, 'out') }
}

/** What must not differ between two ways to the same results. */
function plain(predictions: readonly Prediction[]): unknown {
  return predictions.map(({ timingsMs: _, ...rest }) => rest)
}

const read = (path: string) => readFileSync(path, 'utf8')

t.test('all outputs of one run; tiles and the mirrored image by option', async (t) => {
  const { model, input, out } = await setting(t, 2)
  writeFileSync(join(input, 'left.dcm'), mammogram({ uid: '1.2.3.1' }))
  let stdout = ''
  let stderr = ''
  const io = {
    stdout: (text: string) => {
      stdout += text
    },
    stderr: (text: string) => {
      stderr += text
    },
    env: {},
    isTty: false,
    columns: 80,
  }
  const args = ['predict', model, input, '--out', out, '--output', OUTPUTS.join(','), '--threshold', '0.05']
  t.equal(await runCli([...args, '--tile', '128:128', '--tta', 'hflip', '--isolation', 'process'], io), 0, stderr)
  const names = readdirSync(out, { recursive: true }).map(String)
  for (const name of [
    'film0.json',
    'film0.png',
    'detections.jsonl',
    'detections.csv',
    'detections.coco.json',
    'summary.html',
  ]) {
    t.ok(names.includes(name), name)
  }
  for (const kind of ['cad-sr', 'tid1500', 'gsps', 'sc'])
    t.ok(
      names.some((name) => name.includes(`${kind}-`)),
      kind,
    )
  const { pipeline } = JSON.parse(read(join(out, 'film0.json'))) as Prediction
  t.match(pipeline, { scope: 'tiles', merge: 'fusion' })
  t.ok(pipeline.views >= 8, 'overlapping tiles, each twice')
  const page = read(join(out, 'summary.html'))
  t.match(page, /film1/)
  t.match(page, /default-src 'none'/)
  t.match(stdout, /3 images/)
  stderr = ''
  t.equal(await runCli([...args, '--tile', '100'], io), 2, 'tiles off the stride')
  t.match(stderr, /multiples of 128/)
  stderr = ''
  t.equal(await runCli([...args, '--tile', '1k'], io), 2)
  t.match(stderr, /SIZE:STEP/)
})

t.test('a resumed run predicts only what is missing, and the results are those of one run', async (t) => {
  const { model, input, out, root } = await setting(t)
  const outputs = ['json', 'jsonl', 'csv', 'coco'] as const
  writeFileSync(join(input, 'bad.png'), 'no image')
  const reference = await predict(model, [input], { out: join(root, 'ref'), outputs })
  const controller = new AbortController()
  const seen: string[] = []
  const interrupted = predict(model, [input], {
    out,
    outputs,
    signal: controller.signal,
    onResult: ({ image }) => {
      seen.push(image.id)
      if (seen.length === 2) controller.abort()
    },
  })
  await t.rejects(interrupted, { code: 'ERR_MAMMO_CANCELLED' })
  // As a crash in the middle of a line leaves it.
  const journal = join(out, 'journal.jsonl')
  writeFileSync(journal, `${read(journal)}{"name":"film5","byt`)
  const again: string[] = []
  const resumed = await predict(model, [input], {
    out,
    outputs,
    resume: true,
    onResult: ({ image }) => again.push(image.id),
  })
  t.ok(resumed.resumed >= seen.length)
  for (const id of seen) t.notOk(again.includes(id), `${id} is not predicted twice`)
  t.strictSame(plain(resumed.predictions), plain(reference.predictions))
  t.strictSame(resumed.rejected, reference.rejected)
  for (const name of ['detections.csv', 'detections.coco.json'])
    t.equal(read(join(out, name)), read(join(root, 'ref', name)))
  t.strictSame((await predict(model, [input], { out, outputs, resume: true })).resumed, 7)

  utimesSync(join(input, 'film0.png'), new Date(0), new Date(0))
  rmSync(join(out, 'film1.json'))
  const changed = await predict(model, [input], { out, outputs, resume: true })
  t.equal(changed.resumed, 6, 'a file that changed is predicted again')
  t.ok(read(join(out, 'film1.json')).length > 0, 'a result file that is gone is written again')
  await t.rejects(predict(model, [input], { out, outputs, resume: true, threshold: 0.5 }), {
    code: 'ERR_MAMMO_ARGUMENT',
    message: /the settings changed/,
  })
  truncateSync(journal, 10)
  t.equal((await predict(model, [input], { out, outputs, resume: true })).resumed, 0, 'no whole line')
  writeFileSync(journal, 'something\n')
  await t.rejects(predict(model, [input], { out, outputs, resume: true }), { code: 'ERR_MAMMO_MANIFEST' })
})

t.test('shards share the images, keep studies whole, and merge to the unsharded result', async (t) => {
  const { model, input, out, root } = await setting(t, 5)
  for (const [name, uid, study] of [
    ['a', '1.2.3.1', '1.2.9.1'],
    ['b', '1.2.3.2', '1.2.9.2'],
    ['c', '1.2.3.3', '1.2.9.1'],
    ['d', '1.2.3.4', '1.2.9.2'],
  ] as const) {
    writeFileSync(
      join(input, `${name}.dcm`),
      mammogram({ uid, extra: [...PLAIN_PATIENT, { tag: 0x0020000d, vr: 'UI', value: study }] }),
    )
  }
  const outputs = ['csv', 'jsonl', 'cad-sr'] as const
  const reference = await predict(model, [input], { out: join(root, 'ref'), outputs })
  const parts: string[][] = []
  for (const index of [1, 2, 3]) {
    const { predictions } = await predict(model, [input], { out, outputs, shard: { index, count: 3 } })
    parts.push(predictions.map(({ image }) => image.id))
  }
  t.strictSame(parts.flat().sort(), reference.predictions.map(({ image }) => image.id).sort())
  for (const study of [
    ['a', 'c'],
    ['b', 'd'],
  ]) {
    t.equal(parts.filter((part) => study.some((id) => part.includes(id))).length, 1, 'one shard has the whole study')
  }
  const reports = (folder: string) =>
    readdirSync(join(folder, 'dicom'), { recursive: true })
      .map(String)
      .filter((name) => name.endsWith('.dcm'))
      .sort()
  t.strictSame(reports(out), reports(join(root, 'ref')), 'the same reports')
  const merged = await predict(model, [input], { out, outputs, resume: true })
  t.equal(merged.resumed, 9)
  t.strictSame(plain(merged.predictions), plain(reference.predictions))
  t.equal(read(join(out, 'detections.csv')), read(join(root, 'ref', 'detections.csv')))
  t.strictSame(parseShard('2/7'), { index: 2, count: 7 })
  for (const text of ['0/2', '3/2', '1', 'a/b', '1/2/3'])
    t.throws(() => parseShard(text), { code: 'ERR_MAMMO_ARGUMENT' })
})
