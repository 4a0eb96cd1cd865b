// `predict` with DICOM results: one set per study, the repeat leaves it alone, and a patient who appears in no other output. Every
// attribute that could name her is a canary; logs, errors, JSON, CSV, pictures and file names are searched for all of them.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { runCli } from '../../lib/cli/main.js'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import { readResult } from '../../lib/predict/dicom/read.js'
import { OUTPUTS } from '../../lib/tasks/names.js'
import { predict } from '../../lib/tasks/predict.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { COLUMNS, identityParts, mammogram, PLAIN_PATIENT, ROWS } from '../predict/dicom/studies.js'

async function model(folder: string): Promise<string> {
  const out = join(folder, 'model.onnx')
  await writeManifest(await writeModel(tinyExport(out)), unverifiedRecord('test'))
  return out
}

function allFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((path) => statSync(path).isFile())
    .sort()
}

function study(t: Test): { root: string; input: string } {
  const root = t.testdir({})
  const input = join(root, 'in')
  mkdirSync(input)
  return { root, input }
}

const CANARY = 'CaNaRy'

t.test('no attribute of the patient leaves the DICOM objects', async (t) => {
  const { root, input } = study(t)
  const names: string[] = []
  const extra = identityParts((name) => {
    names.push(name)
    return `${CANARY}${name}`.slice(0, 16)
  })
  writeFileSync(join(input, 'a.dcm'), mammogram({ uid: '1.2.3.1', extra }))
  writeFileSync(join(input, 'b.dcm'), mammogram({ uid: '1.2.3.2', side: 'R', extra }))
  // One with damaged pixels, one of another class, one whose character set is wrong: their errors are searched too.
  writeFileSync(join(input, 'c.dcm'), mammogram({ uid: '1.2.3.3', extra }).subarray(0, -200))
  const report = { tag: 0x00080016, vr: 'UI', value: '1.2.840.10008.5.1.4.1.1.88.33' }
  writeFileSync(join(input, 'd.dcm'), mammogram({ uid: '1.2.3.4', extra: [...extra, report] }))
  const charset = { tag: 0x00080005, vr: 'CS', value: 'ISO_IR 999' }
  writeFileSync(join(input, 'e.dcm'), mammogram({ uid: '1.2.3.5', extra: [...extra, charset] }))
  const out = join(root, 'out')
  let log = ''
  const write = (text: string) => {
    log += text
  }
  const args = ['predict', await model(root), input, '--out', out, '--threshold', '0.05', '--output', OUTPUTS.join(',')]
  const io = { stdout: write, stderr: write, env: {}, isTty: false, columns: 80 }
  await runCli(args, io)
  await runCli([...args, '--json'], io)
  const files = allFiles(out)
  const objects = files.filter((path) => path.endsWith('.dcm'))
  t.ok(objects.length >= 2, 'objects were written')
  t.ok(files.length > objects.length + 3, 'and other files')
  t.ok(readFileSync(objects[0]!).includes(CANARY), 'the canary lives in the objects')
  t.match(log, /dicom\/|ERR_MAMMO/)
  const needle = new RegExp(`${CANARY}|1\\.2\\.3\\.100|1\\.2\\.3\\.200|19600101`, 'i')
  t.notMatch(log, needle, 'logs and errors')
  for (const path of files) {
    t.notMatch(path, needle, 'file name')
    if (!path.endsWith('.dcm')) t.notMatch(readFileSync(path, 'latin1'), needle, path.slice(out.length))
  }
  t.ok(names.length > 20)
})

t.test('one set of objects per study; a repeat leaves it, a change names its predecessor', async (t) => {
  const { root, input } = study(t)
  const another = { tag: 0x0020000d, vr: 'UI', value: '1.2.3.101' }
  writeFileSync(join(input, 'a.dcm'), mammogram({ uid: '1.2.3.1' }))
  writeFileSync(join(input, 'b.dcm'), mammogram({ uid: '1.2.3.2', side: 'R' }))
  writeFileSync(join(input, 'c.dcm'), mammogram({ uid: '1.2.3.3', extra: [...PLAIN_PATIENT, another] }))
  writeFileSync(join(input, 'd.png'), await encodeGrey16Png(new Uint16Array(ROWS * COLUMNS), COLUMNS, ROWS))
  const onnx = await model(root)
  const out = join(root, 'out')
  const warnings: string[] = []
  const run = (threshold: number) =>
    predict(onnx, [input], {
      out,
      outputs: ['cad-sr', 'tid1500', 'sc'],
      threshold,
      onWarning: (path, { code }) => warnings.push(`${code} ${path?.slice(input.length + 1)}`),
    })
  const first = await run(0.05)
  t.strictSame(warnings, ['dicom/input d.png'])
  const kinds = first.files.map((path) => readResult(readFileSync(path), path).kind).sort()
  t.strictSame(kinds, ['cad-sr', 'cad-sr', 'sc', 'sc', 'sc', 'tid1500', 'tid1500'])
  const cad = (files: readonly string[]) =>
    files.map((path) => readResult(readFileSync(path), path)).filter(({ kind }) => kind === 'cad-sr')
  const [large] = cad(first.files).filter(({ reference }) => reference.study === '1.2.3.100')
  t.strictSame([...large!.images].sort(), ['1.2.3.1', '1.2.3.2'])
  const found = first.predictions.filter(({ image }) => image.id !== 'c' && image.id !== 'd')
  t.strictSame(
    large!.findings.map(({ box }) => box).sort(),
    found.flatMap(({ detections }) => detections.map(({ box }) => box.map(Math.fround))).sort(),
  )
  const objects = () => allFiles(join(out, 'dicom')).map((path) => [path, readFileSync(path, 'latin1')])
  const before = objects()
  t.strictSame((await run(0.05)).files, [], 'the repeat writes nothing')
  t.strictSame(objects(), before)
  const changed = cad((await run(0.5)).files)
  t.equal(changed.length, 2)
  const follower = changed.find(({ reference }) => reference.study === '1.2.3.100')!
  t.strictSame(follower.predecessors, [large!.reference])
})

t.test('failures, foreign patients and burned-in text are told', async (t) => {
  const { root, input } = study(t)
  const onnx = await model(root)
  const stranger = PLAIN_PATIENT.map((part) => (part.tag === 0x00100020 ? { ...part, value: 'P2' } : part))
  const study2 = { tag: 0x0020000d, vr: 'UI', value: '1.2.3.102' }
  const burned = { tag: 0x00280301, vr: 'CS', value: 'YES' }
  writeFileSync(join(input, 'a.dcm'), mammogram({ uid: '1.2.3.1' }))
  writeFileSync(join(input, 'b.dcm'), mammogram({ uid: '1.2.3.2', extra: stranger }))
  writeFileSync(join(input, 'c.dcm'), mammogram({ uid: '1.2.3.3', extra: [...PLAIN_PATIENT, study2, burned] }))
  writeFileSync(
    join(input, 'd.dcm'),
    mammogram({ uid: '1.2.3.4', extra: [...PLAIN_PATIENT, study2] }).subarray(0, -200),
  )
  const warnings: string[] = []
  const { files } = await predict(onnx, [input], {
    out: join(root, 'out'),
    outputs: ['png', 'cad-sr', 'sc'],
    threshold: 0.05,
    onWarning: (path, { code }) => warnings.push(`${code} ${path?.slice(input.length + 1)}`),
  })
  t.strictSame(warnings.sort(), ['dicom/burned-in c.dcm', 'dicom/burned-in c.dcm', 'dicom/patient undefined'])
  t.strictSame(
    files
      .filter((path) => path.endsWith('.png'))
      .map((path) => path.slice(-5))
      .sort(),
    ['a.png', 'b.png'],
  )
  const [report, ...others] = files
    .filter((path) => path.endsWith('.dcm'))
    .map((path) => readResult(readFileSync(path), path))
  t.strictSame(others, [])
  t.match(report!.statements.join('\n'), /image 2: ERR_MAMMO_DICOM/)
  t.ok(['111243', '111244'].includes(report!.summary!.value))
})
