// Writes a set of synthetic mammograms in the layout of INbreast: DICOM files, contours as property lists, one table. Image k
// depends on the seed and k alone, never on the count. What an image shows is in phantom/. No clinical evidence (datasets spec 5).
import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { UsageError } from '../errors.js'
import { randomStream } from '../random.js'
import { writeGreyDicom } from './dicom/write.js'
import type { BreastShape } from './phantom/outline.js'
import {
  type BreastPlan,
  makePhantom,
  type Phantom,
  type PhantomView,
  planBreast,
  planShape,
} from './phantom/phantom.js'

export interface SynthOptions {
  out: string
  count: number
  /** Rows and columns; default 3328 x 2560, at most 4096 x 3328. */
  height?: number
  width?: number
  seed?: number
  /** The irregularities of the real set: misspelt names, a blank cell, an FB view, points beyond the border, a two-case patient, no XML for normals. */
  quirks?: boolean
  signal?: AbortSignal
  onProgress?: (done: number, total: number, id: string) => void
}

export interface SynthSummary {
  folder: string
  images: number
  patients: number
  masses: number
  positive: number
  seconds: number
}

/** Secondary capture: like the real set, the files do not call themselves mammograms. */
const SECONDARY_CAPTURE = '1.2.840.10008.5.1.4.1.1.7'
const FIRST_ID = 20_000_001

interface ImagePlan {
  index: number
  id: string
  /** 16 hex digits. */
  patient: string
  breast: BreastPlan
  view: PhantomView
  /** In file names and the table of one quirk: FB. */
  shownView: 'CC' | 'ML' | 'FB'
  biRads: string
  /** YYYYMM */
  date: string
}

/** Writes `count` images. Throws UsageError ARGUMENT on sizes and counts out of range, and where images of another call lie. */
export async function synthesize(options: SynthOptions): Promise<SynthSummary> {
  const started = performance.now()
  const { out, count, height = 3328, width = 2560, seed = 0, quirks = false } = options
  if (!Number.isInteger(count) || count < 1 || count > 100_000) {
    throw new UsageError('ARGUMENT', `expected --count as an integer from 1 to 100000, got ${count}`)
  }
  if (![height, width].every(Number.isInteger) || height < 128 || width < 96 || height > 4096 || width > 3328) {
    throw new UsageError(
      'ARGUMENT',
      `expected --size from 128x96 to 4096x3328 (rows x columns), got ${height}x${width}`,
    )
  }
  const plans = planImages(seed, count, quirks)
  await refuseOtherImages(join(out, 'AllDICOMs'), new Set(plans.map(fileName)))
  const rows = ['Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads']
  let [masses, positive] = [0, 0]
  for (const plan of plans) {
    options.signal?.throwIfAborted()
    const { breast, id, shownView, index } = plan
    const phantom = makePhantom({ seed, image: index, breast, view: plan.view, width, height })
    const dicom = writeGreyDicom({
      ...{ pixels: phantom.pixels, width, height, bitsStored: 12, modality: 'OT', sopClass: SECONDARY_CAPTURE },
      identity: `synthetic ${seed} ${index} ${height}x${width}`,
      description: 'SYNTHETIC PHANTOM, NOT A PATIENT',
    })
    await writeFileAtomic(join(out, 'AllDICOMs', fileName(plan)), dicom)
    const xml = contourXml(phantom, width, height, quirks, index)
    if (xml !== null) await writeFileAtomic(join(out, 'AllXML', `${id}.xml`), xml)
    const acr = quirks && index === 3 ? '    ' : String(breast.density)
    const view = shownView === 'ML' ? 'MLO' : shownView
    rows.push(`synthetic;synthetic;${breast.side};${view};${plan.date};${id};${acr};${plan.biRads}`)
    masses += phantom.masses.length
    if (phantom.masses.length > 0) positive++
    options.onProgress?.(index + 1, count, id)
  }
  await writeFileAtomic(join(out, 'INbreast.csv'), `${rows.join('\r\n')}\r\n`)
  const patients = new Set(plans.map((plan) => plan.patient)).size
  return { folder: out, images: count, patients, masses, positive, seconds: (performance.now() - started) / 1000 }
}

const fileName = ({ id, patient, breast, shownView }: ImagePlan) =>
  `${id}_${patient}_MG_${breast.side}_${shownView}_ANON.dcm`

/** The table would not name the images of an earlier call with another seed or a larger count, and the set would be broken. */
async function refuseOtherImages(folder: string, own: ReadonlySet<string>): Promise<void> {
  const names = await readdir(folder).catch(() => [])
  const other = names.filter((name) => name.endsWith('.dcm') && !own.has(name))
  if (other.length === 0) return
  throw new UsageError('ARGUMENT', `expected --out without other images, found ${other.length} such as ${other[0]}`, {
    where: folder,
    fix: 'name another folder, or remove this one',
  })
}

/** Images patient by patient. Of four breasts in a row one has a mass; which, the seed decides. */
function planImages(seed: number, count: number, quirks: boolean): ImagePlan[] {
  const plans: ImagePlan[] = []
  let breasts = 0
  for (let p = 0; plans.length < count; p++) {
    const random = randomStream(seed, 'patient', p)
    const shape = planShape(random)
    const draw = random.uniform()
    const density = draw < 0.33 ? 1 : draw < 0.68 ? 2 : draw < 0.9 ? 3 : 4
    const single = random.uniform() < 0.25
    const firstSide: 'L' | 'R' = random.uniform() < 0.5 ? 'L' : 'R'
    // One case in the real set belongs to a patient who came twice.
    const key = quirks && p === 2 ? 1 : p
    const patient = createHash('sha256').update(`patient ${seed} ${key}`).digest('hex').slice(0, 16)
    const date = `20${String(8 + random.integer(3)).padStart(2, '0')}${String(1 + random.integer(12)).padStart(2, '0')}`
    const sides: ('L' | 'R')[] = single ? [firstSide] : ['L', 'R']
    for (const side of sides) {
      const number = breasts++
      const chosen = randomStream(seed, 'positive', Math.floor(number / 4)).integer(4)
      const own: BreastShape = {
        ...shape,
        depth: shape.depth * random.uniform(0.96, 1.04),
        half: shape.half * random.uniform(0.96, 1.04),
      }
      const breast = planBreast(seed, number, side, own, density, number % 4 === chosen)
      if (quirks && number < 4 && breast.masses[0] !== undefined) {
        Object.assign(breast.masses[0], { depth: 0.01, diameterMm: Math.max(25, breast.masses[0].diameterMm) })
      }
      const biRads =
        breast.masses.length > 0
          ? ['3', '4a', '4b', '4c', '5', '6'][random.integer(6)]!
          : random.uniform() < 0.25
            ? '1'
            : '2'
      for (const view of ['CC', 'MLO'] as const) {
        if (plans.length === count) break
        const index = plans.length
        const shownView = quirks && index === 5 ? 'FB' : view === 'MLO' ? 'ML' : 'CC'
        plans.push({ index, id: String(FIRST_ID + index), patient, breast, view, shownView, biRads, date })
      }
    }
  }
  return plans
}

const MISSPELT = ['Calcifications', 'Cluster', 'Unnamed', 'calcification ']

/** The contours of an image as a property list; null when a normal has none. */
function contourXml(phantom: Phantom, width: number, height: number, quirks: boolean, index: number): string | null {
  const { masses, calcifications } = phantom
  if (quirks && masses.length === 0 && calcifications.length === 0) return null
  const rois: string[] = []
  const roi = (name: string, points: readonly (readonly [number, number])[]) => {
    const text = points.map(([x, y]) => `          <string>(${x.toFixed(6)}, ${y.toFixed(6)})</string>`).join('\n')
    rois.push(`        <dict>
          <key>IndexInImage</key><integer>${rois.length}</integer>
          <key>Name</key><string>${name}</string>
          <key>NumberOfPoints</key><integer>${points.length}</integer>
          <key>Point_px</key><array>
${text}
          </array>
          <key>Type</key><integer>${points.length > 1 ? 15 : 19}</integer>
        </dict>`)
  }
  // Contours end at the border of the image; in the real set a few leave it by a fraction of a pixel.
  const beyond = quirks ? 0.3 : 0
  const within = (value: number, limit: number) => Math.min(limit - 1 + beyond, Math.max(-beyond, value))
  for (const { contour } of masses)
    roi(
      'Mass',
      contour.map(([x, y]) => [within(x, width), within(y, height)] as const),
    )
  for (const point of calcifications) roi(quirks ? MISSPELT[index % MISSPELT.length]! : 'Calcification', [point])
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Comment</key><string>synthetic phantom, not a patient</string>
  <key>Images</key><array>
    <dict>
      <key>ImageIndex</key><integer>0</integer>
      <key>NumberOfROIs</key><integer>${rois.length}</integer>
      <key>ROIs</key><array>
${rois.join('\n')}
      </array>
    </dict>
  </array>
</dict>
</plist>
`
}
