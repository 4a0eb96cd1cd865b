// Every kind of result object in every situation, before tools of others: dciodvfy and dcsrdump (dicom3tools), dsrdump (dcmtk), pydicom,
// and an Orthanc server on loopback. Each test skips with the reason where its tool is absent.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readImage } from '../../../lib/data/image.js'
import { RESULT_KINDS, resultObjects } from '../../../lib/predict/dicom/objects.js'
import { planReport } from '../../../lib/predict/dicom/report.js'
import { situations } from './studies.js'

const folder = mkdtempSync(join(tmpdir(), 'mammo-dicom-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

interface Written {
  situation: string
  kind: string
  path: string
  instance: string
  findings: number
}

const written: Written[] = []
for (const [situation, { images, settings }] of Object.entries(await situations(folder))) {
  // Equal images and settings have equal UIDs, as they have equal findings outside of tests.
  const report = planReport(images, { ...settings, pipeline: [situation] })
  const out = join(folder, situation.replaceAll(/\W+/g, '-'))
  mkdirSync(out)
  const pixels = async (n: number) =>
    (await readImage(join(folder, `${report.images[n]!.source.instance}.dcm`), { assumeMammogram: true })).pixels
  for await (const { kind, instance, image, bytes } of resultObjects(report, RESULT_KINDS, { pixels, maxSide: 1000 })) {
    const path = join(out, `${kind}-${image ?? 'all'}.dcm`)
    writeFileSync(path, bytes)
    const findings = report.findings.filter((finding) => image === null || (finding.image === image && finding.shown))
    written.push({ situation, kind, path, instance, findings: findings.length })
  }
}
const reports = written.filter(({ kind }) => kind === 'cad-sr' || kind === 'tid1500')

function has(tool: string): boolean {
  return spawnSync('which', [tool]).status === 0
}

const skipWithout = (tool: string, what: string) => (has(tool) ? {} : { skip: `no ${tool}: apt-get install ${what}` })

t.test('dciodvfy finds no error in any object', skipWithout('dciodvfy', 'dicom3tools'), async (t) => {
  for (const { situation, kind, path } of written) {
    const { stderr, stdout } = spawnSync('dciodvfy', ['-new', path], { encoding: 'utf8' })
    const errors = `${stdout}${stderr}`.split('\n').filter((line) => /^Error|Abort/.test(line))
    t.strictSame(errors, [], `${kind}, ${situation}`)
  }
})

t.test('dcsrdump reads every report', skipWithout('dcsrdump', 'dicom3tools'), async (t) => {
  for (const { situation, kind, path, findings } of reports) {
    const { stderr, status } = spawnSync('dcsrdump', ['-identifier', path], { encoding: 'utf8' })
    t.equal(status, 0, `${kind}, ${situation}`)
    t.equal(stderr.match(/\bPOLYLINE\b/gi)?.length ?? 0, findings, `${kind}, ${situation}: outlines`)
    t.notMatch(stderr, /Error/, `${kind}, ${situation}`)
  }
})

/** What dsrdump says about itself, not about a report. */
const DSRDUMP_LIMITS =
  /VR checker does not support this Specific Character Set: ISO_IR 192|template constraints not yet supported/

t.test('dsrdump accepts the relationships of every report', skipWithout('dsrdump', 'dcmtk'), async (t) => {
  for (const { situation, kind, path, findings } of reports) {
    const { stdout, stderr, status } = spawnSync('dsrdump', [path], { encoding: 'utf8' })
    t.equal(status, 0, `${kind}, ${situation}`)
    t.strictSame(
      stderr.split('\n').filter((line) => line !== '' && !DSRDUMP_LIMITS.test(line)),
      [],
      `${kind}, ${situation}`,
    )
    t.equal(stdout.match(/POLYLINE/g)?.length ?? 0, findings, `${kind}, ${situation}: outlines`)
  }
})

const PEER = `
import sys, pydicom
for path in sys.argv[1:]:
    ds = pydicom.dcmread(path)
    n = 0
    for e in ds.iterall():
        n += 1
    print(path, ds.SOPInstanceUID, repr(str(ds.PatientName)), n > 10, sep='\\t')
    if ds.Modality == 'OT': ds.pixel_array
`

t.test('pydicom reads every element', async (t) => {
  const python = process.env['MAMMO_PEER_PYTHON']
  const usable = python !== undefined && spawnSync(python, ['-c', 'import pydicom']).status === 0
  if (!usable) return t.pass('skipped', { skip: 'no Python with pydicom; set MAMMO_PEER_PYTHON' })
  const paths = written.map(({ path }) => path)
  const { stdout, stderr, status } = spawnSync(python, ['-W', 'error', '-c', PEER, ...paths], { encoding: 'utf8' })
  t.equal(status, 0, stderr)
  const rows = stdout
    .trim()
    .split('\n')
    .map((line) => line.split('\t'))
  t.strictSame(
    rows.map((row) => row[1]),
    written.map(({ instance }) => instance),
  )
  const names = new Map(written.map(({ situation }, n) => [situation, rows[n]?.[2]]))
  t.match(names.get('Japanese name, several character sets'), "'Yamada^Tarou=山田^太郎'")
  t.match(names.get('Greek name'), "'Διονυσίος'")
})

const HIGHDICOM = `
import sys, highdicom
for path in sys.argv[1:]:
    groups = highdicom.sr.srread(path).content.get_planar_roi_measurement_groups()
    print(len(groups), len(set(g.tracking_uid for g in groups)), all(g.roi.graphic_type.name == 'POLYLINE' for g in groups))
`

t.test('highdicom finds every measurement group', async (t) => {
  const python = process.env['MAMMO_PEER_PYTHON']
  const usable = python !== undefined && spawnSync(python, ['-c', 'import highdicom']).status === 0
  if (!usable) return t.pass('skipped', { skip: 'no Python with highdicom; set MAMMO_PEER_PYTHON' })
  const measured = written.filter(({ kind }) => kind === 'tid1500')
  const { stdout, stderr, status } = spawnSync(python, ['-c', HIGHDICOM, ...measured.map(({ path }) => path)], {
    encoding: 'utf8',
  })
  t.equal(status, 0, stderr)
  t.strictSame(
    stdout.trim().split('\n'),
    measured.map(({ findings }) => `${findings} ${findings} True`),
  )
})

t.test('Orthanc stores every object and returns it unchanged', skipWithout('Orthanc', 'orthanc'), async (t) => {
  const port = await freePort()
  const base = join(folder, 'orthanc')
  mkdirSync(base)
  const config = join(base, 'orthanc.json')
  writeFileSync(
    config,
    JSON.stringify({
      StorageDirectory: base,
      IndexDirectory: base,
      HttpPort: port,
      DicomServerEnabled: false,
      RemoteAccessAllowed: false,
      AuthenticationEnabled: false,
      Plugins: [],
    }),
  )
  const server = spawn('Orthanc', [config], { stdio: 'ignore' })
  t.teardown(() => server.kill())
  const url = `http://127.0.0.1:${port}`
  for (let n = 0; n < 150; n++) {
    const up = await fetch(`${url}/system`).then(
      (response) => response.ok,
      () => false,
    )
    if (up) break
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  for (const { situation, kind, path } of written) {
    const bytes = readFileSync(path)
    const stored = await fetch(`${url}/instances`, { method: 'POST', body: bytes })
    t.equal(stored.status, 200, `${kind}, ${situation}`)
    const { ID } = (await stored.json()) as { ID: string }
    const back = Buffer.from(await (await fetch(`${url}/instances/${ID}/file`)).arrayBuffer())
    t.ok(back.equals(bytes), `${kind}, ${situation}: unchanged`)
  }
})

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
