import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { type DicomElement, type DicomJson, firstText, itemsIn } from '../../../lib/data/dicom/dataset.js'
import { cadSr } from '../../../lib/predict/dicom/cad-sr.js'
import { checkReport, type Matrices } from '../../../lib/predict/dicom/check.js'
import { planReport, type Report } from '../../../lib/predict/dicom/report.js'
import { tid1500 } from '../../../lib/predict/dicom/tid1500.js'
import { COLUMNS, ROWS, situations } from './studies.js'

const folder = mkdtempSync(join(tmpdir(), 'mammo-check-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const all = await situations(folder)

const matricesOf = (report: Report): Matrices =>
  new Map(report.images.map(({ source }) => [source.instance, { rows: ROWS, columns: COLUMNS }]))

/** What the decision table of the specification says for each situation: CID 6047, CID 6042, number of findings. */
const DECISIONS: Record<string, [string, string, number]> = {
  'findings in one view': ['111242', '111222', 2],
  'findings in four views': ['111242', '111222', 12],
  'findings in one of twelve views': ['111242', '111222', 1],
  'no findings': ['111241', '111222', 0],
  'one view failed, findings': ['111244', '111223', 2],
  'one view failed, no findings': ['111243', '111223', 0],
  'all views failed': ['111245', '111224', 0],
  'Japanese name, several character sets': ['111242', '111222', 1],
  'Greek name': ['111242', '111222', 1],
  'a header with nothing optional': ['111242', '111222', 1],
  'inverted, with a grey table, no birth date': ['111242', '111222', 1],
  '1000 findings cut to 50': ['111242', '111222', 50],
  'probability of cancer': ['111242', '111222', 2],
}

t.test('reports of every situation are without fault and say what the decision table says', async (t) => {
  for (const [name, { images, settings }] of Object.entries(all)) {
    const report = planReport(images, settings)
    const [cad, measured] = [cadSr(report), tid1500(report)]
    t.strictSame(checkReport(cad, matricesOf(report)), [], `CAD SR: ${name}`)
    t.strictSame(checkReport(measured, matricesOf(report)), [], `TID 1500: ${name}`)
    const [, , summary, detections] = itemsIn(cad, '0040A730')
    const code = (item: DicomJson) => firstText(itemsIn(item, '0040A168')[0]!, '00080100')
    const got = [code(summary!), code(detections!), itemsIn(summary!, '0040A730').length]
    t.strictSame(got, DECISIONS[name], name)
    const listed = itemsIn(cad, '0040A375').flatMap((study) =>
      itemsIn(study, '00081115').flatMap((series) =>
        itemsIn(series, '00081199').map((image) => firstText(image, '00081155')),
      ),
    )
    t.strictSame(listed.sort(), images.map(({ source }) => source.instance).sort(), `${name}: evidence`)
  }
  t.strictSame(Object.keys(all).sort(), Object.keys(DECISIONS).sort(), 'every situation has its expectation')
})

type Path = readonly (string | number)[]

/** The data set with the value at a path of tags and item numbers replaced; undefined removes it. */
function changed(dataset: DicomJson, [tag, n, ...rest]: Path, value: DicomElement | undefined): DicomJson {
  const key = tag as string
  if (n === undefined) {
    const { [key]: _, ...others } = dataset
    return value === undefined ? others : { ...others, [key]: value }
  }
  const items = [...((dataset[key]?.Value ?? []) as DicomJson[])]
  items[n as number] = changed(items[n as number]!, rest, value)
  return { ...dataset, [key]: { vr: 'SQ', Value: items } }
}

const C = '0040A730'
const code = (value: string, scheme = 'DCM'): DicomElement => ({
  vr: 'SQ',
  Value: [
    {
      '00080100': { vr: 'SH', Value: [value] },
      '00080102': { vr: 'SH', Value: [scheme] },
      '00080104': { vr: 'LO', Value: ['x'] },
    },
  ],
})

/** Paths of the items of `findings in one view`: first finding, its outline (last but none), the container of the detections. */
const FINDING: Path = [C, 2, C, 0, C, 1]
const OUTLINE: Path = [...FINDING, C, 13]
const PERFORMED: Path = [C, 3, C, 0, C, 0]

const WRONG: [what: string, path: Path, value: DicomElement | undefined, fault: RegExp][] = [
  [
    'by-reference path into nothing',
    [...OUTLINE, C, 0, '0040DB73'],
    { vr: 'UL', Value: [1, 2, 9] },
    /leads to no image/,
  ],
  [
    'by-reference path to another item',
    [...OUTLINE, C, 0, '0040DB73'],
    { vr: 'UL', Value: [1, 3] },
    /leads to no image/,
  ],
  [
    'by reference where it is forbidden',
    [...OUTLINE, C, 0, '0040A010'],
    { vr: 'CS', Value: ['CONTAINS'] },
    /must not be by reference/,
  ],
  ['no image selected', [...OUTLINE, C], undefined, /expected 1 of SELECTED FROM REFERENCE/],
  [
    'coordinates outside',
    [...OUTLINE, '00700022'],
    { vr: 'FL', Value: [0, 0, 65, 0, 65, 1, 0, 1, 0, 0] },
    /outside the matrix/,
  ],
  [
    'an open outline',
    [...OUTLINE, '00700022'],
    { vr: 'FL', Value: [0, 0, 5, 0, 5, 1, 0, 1, 0, 1] },
    /five that end at the first/,
  ],
  ['mass of several views', [...FINDING, '0040A168'], code('129788004', 'SCT'), /context group/],
  ['unknown rendering intent', [...FINDING, C, 0, '0040A168'], code('111222'), /context group/],
  ['unequal rendering intents', [...FINDING, C, 0, '0040A168'], code('111151'), /one rendering intent on both levels/],
  ['wrong summary', [C, 2, '0040A168'], code('111241'), /decision table/],
  ['wrong detections', [C, 3, '0040A168'], code('111224'), /decision table/],
  ['missing language', [C, 0, '0040A043'], code('121046'), /Language of Content Item/],
  [
    'image not listed as successful',
    [...PERFORMED, C, 8, '0040DB73'],
    { vr: 'UL', Value: [1, 2, 2] },
    /leads to no image/,
  ],
  ['evidence left out', ['0040A375'], { vr: 'SQ' }, /evidence/],
  ['verified by nobody', ['0040A493'], { vr: 'CS', Value: ['VERIFIED'] }, /VerificationFlag/],
  ['no type 2 sequence', ['0040A372'], undefined, /0040,A372/],
  ['another template', ['0040A504', 0, '0040DB00'], { vr: 'CS', Value: ['1500'] }, /expected template 4000/],
  ['a value type of no template', [C, 4, '0040A040'], { vr: 'CS', Value: ['WAVEFORM'] }, /value type/],
  ['a meaning too long', [C, 4, '0040A043', 0, '00080104'], { vr: 'LO', Value: ['x'.repeat(65)] }, /code meaning/],
]

t.test('every kind of fault is found', async (t) => {
  const report = planReport(all['findings in one view']!.images, all['findings in one view']!.settings)
  const good = cadSr(report)
  for (const [what, path, value, fault] of WRONG) {
    const bad = changed(good, path, value)
    const faults = checkReport(bad, matricesOf(report))
    t.ok(
      faults.some((each) => fault.test(each)),
      `${what}: ${JSON.stringify(faults)}`,
    )
  }
  const measured = tid1500(report)
  const [first] = itemsIn(itemsIn(measured, C)[8]!, C)
  const twice = changed(measured, [C, 8, C], { vr: 'SQ', Value: [first!, first!] })
  t.match(checkReport(twice, matricesOf(report)), [/two findings with one UID/])
  t.match(checkReport({ '00080016': { vr: 'UI', Value: ['1.2'] } }, new Map()), [/SOPClassUID/])
})

t.test('items out of order are found', async (t) => {
  const report = planReport(all['no findings']!.images, all['no findings']!.settings)
  const good = cadSr(report)
  const items = itemsIn(good, C)
  const swapped = { ...good, [C]: { vr: 'SQ', Value: [items[0]!, items[1]!, items[3]!, items[2]!, items[4]!] } }
  t.match(checkReport(swapped, matricesOf(report)).join('\n'), /has no place as item|at this place, got 0/)
})
