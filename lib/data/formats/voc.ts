// Pascal VOC, read and written: Annotations/*.xml, ImageSets/Main/<set>.txt, images in JPEGImages. Boxes are 1-based and inclusive in
// the files, `[xmin - 1, ymin - 1, xmax, ymax]` here; --zero-based reads them as 0-based half-open. `difficult` is ignore.
import { basename, join } from 'node:path'
import { XMLParser, XMLValidator } from 'fast-xml-parser'
import type { Adapter, AdapterOptions, Box, Dataset, ImageRecord, Problem, SplitHint } from '../types.js'
import { collect, type Draft, isFolder, listFiles, noDataset, stem } from './collect.js'
import { readText } from './table.js'

const VERSION = 1

export const voc: Adapter = {
  name: 'voc',
  version: VERSION,
  detect: async (root) =>
    (await isFolder(join(root, 'Annotations'))) &&
    ((await isFolder(join(root, 'JPEGImages'))) || (await isFolder(join(root, 'ImageSets')))),
  read,
}

interface VocObject {
  name: string
  difficult: boolean
  box: Box
}

interface VocFile {
  filename: string
  width: number | undefined
  height: number | undefined
  objects: VocObject[]
}

/** Reads a VOC folder. Throws ERR_MAMMO_ANNOTATION when there are no annotations. */
async function read(root: string, options: AdapterOptions = {}): Promise<Dataset> {
  const zeroBased = options.voc?.zeroBased ?? false
  const files = await listFiles(root)
  const annotations = files.filter((file) => /^Annotations\/.*\.xml$/i.test(file))
  if (annotations.length === 0)
    throw noDataset('XML files in Annotations', root, 'choose the folder that holds Annotations and ImageSets')
  const problems: Problem[] = []
  const splits = await readSplits(root, files, options.sets)
  const images = new Map(files.filter(isImage).map((file) => [stem(basename(file)), file]))
  const known = new Set(files)
  const drafts: Draft[] = []
  const used = new Set<string>()
  for (const annotationFile of annotations) {
    const id = stem(basename(annotationFile))
    used.add(id)
    if (options.sets !== undefined && !splits.has(id)) continue
    const parsed = parseVoc(await readText(join(root, annotationFile)), annotationFile, zeroBased, problems)
    if (parsed === undefined) continue
    const folder = options.images ?? 'JPEGImages'
    const named = [parsed.filename, `${folder}/${parsed.filename}`].find((file) => known.has(file))
    drafts.push({
      id,
      path: named ?? images.get(id) ?? `${folder}/${parsed.filename}`,
      split: splits.get(id) ?? null,
      annotated: true,
      annotationFile,
      where: annotationFile,
      ...(parsed.width === undefined || parsed.height === undefined
        ? {}
        : { size: { width: parsed.width, height: parsed.height } }),
      lesions: parsed.objects.map(({ name, difficult, box }, index) => ({
        id: `object${index + 1}`,
        class: name.toLowerCase(),
        box,
        ignore: difficult,
        source: { file: annotationFile, index, name },
        where: `${annotationFile}, object ${index + 1}`,
      })),
    })
  }
  // An image of a set without an annotation file is unknown, not negative.
  for (const [id, split] of splits) {
    if (used.has(id)) continue
    const path = images.get(id) ?? `JPEGImages/${id}.jpg`
    drafts.push({ id, path, split, annotated: false, lesions: [], annotationFile: null, where: `ImageSets, ${id}` })
  }
  return collect(root, drafts, problems, options, { adapter: 'voc', version: VERSION, labelRules: { zeroBased } })
}

/** Parses one annotation file; faults become problems, undefined when the file as a whole is damaged. */
export function parseVoc(xml: string, where: string, zeroBased: boolean, problems: Problem[]): VocFile | undefined {
  const error = (rule: string, message: string, place = where) =>
    problems.push({
      rule,
      level: 'error',
      message,
      where: place,
      fix: 'correct the file, or list the image in --exclude',
    })
  const valid = XMLValidator.validate(xml)
  if (valid !== true) {
    error('voc/xml', 'file is not well-formed XML', `${where}:${valid.err.line}`)
    return undefined
  }
  const parser = new XMLParser({ parseTagValue: false, isArray: (name) => name === 'object' })
  const root = (parser.parse(xml) as Record<string, unknown>)['annotation'] as Record<string, unknown> | undefined
  if (typeof root !== 'object' || root === null) {
    error('voc/xml', 'file has no element <annotation>')
    return undefined
  }
  const size = (root['size'] ?? {}) as Record<string, unknown>
  const objects: VocObject[] = []
  for (const [n, object] of ((root['object'] ?? []) as Record<string, unknown>[]).entries()) {
    const box = (object['bndbox'] ?? {}) as Record<string, unknown>
    const [xmin, ymin, xmax, ymax] = ['xmin', 'ymin', 'xmax', 'ymax'].map((key) => numberOf(box[key])) as Box
    const name = String(object['name'] ?? '').trim()
    if (name === '') error('voc/name', `object ${n + 1} has no name`)
    else if (![xmin, ymin, xmax, ymax].every(Number.isFinite))
      error('voc/box', `object ${n + 1} must have numbers xmin, ymin, xmax, ymax`)
    else {
      const shift = zeroBased ? 0 : 1
      objects.push({
        name,
        difficult: String(object['difficult'] ?? '0').trim() === '1',
        box: [xmin - shift, ymin - shift, xmax, ymax],
      })
    }
  }
  const filename = String(root['filename'] ?? '').trim() || `${stem(basename(where))}.jpg`
  const [width, height] = [numberOf(size['width']), numberOf(size['height'])]
  return { filename, width: width > 0 ? width : undefined, height: height > 0 ? height : undefined, objects }
}

function numberOf(value: unknown): number {
  const text = String(value ?? '').trim()
  return text === '' ? Number.NaN : Number(text)
}

/** Split of each image by the sets it stands in; `trainval` and class lists say nothing. */
async function readSplits(
  root: string,
  files: readonly string[],
  wanted: readonly string[] | undefined,
): Promise<Map<string, SplitHint | null>> {
  const splits = new Map<string, SplitHint | null>()
  for (const file of files) {
    const set = /^ImageSets\/Main\/([^/]+)\.txt$/.exec(file)?.[1]
    if (set === undefined || (wanted === undefined ? !['train', 'val', 'test'].includes(set) : !wanted.includes(set)))
      continue
    const split = set === 'train' || set === 'val' || set === 'test' ? set : null
    for (const line of (await readText(join(root, file))).split(/\r?\n/)) {
      const [id] = line.trim().split(/\s+/)
      if (id) splits.set(id, split)
    }
  }
  return splits
}

function isImage(file: string): boolean {
  return /\.(png|jpe?g|tiff?|pgm|dcm|dicom)$/i.test(file)
}

/** Files of a VOC dataset for records, by path: one annotation per record and the lists of the splits. */
export function vocFiles(records: readonly ImageRecord[]): Map<string, string> {
  const files = new Map<string, string>()
  const sets = new Map<string, string[]>()
  for (const record of records) {
    const name = fileName(record)
    files.set(`Annotations/${name}.xml`, vocXml(record))
    if (record.split !== null) sets.set(record.split, [...(sets.get(record.split) ?? []), name])
  }
  for (const [set, names] of sets) files.set(`ImageSets/Main/${set}.txt`, `${names.join('\n')}\n`)
  if (sets.size === 0)
    files.set('ImageSets/Main/trainval.txt', records.map((record) => `${fileName(record)}\n`).join(''))
  return files
}

/** One name per record, without folders. */
export function fileName({ id }: ImageRecord): string {
  return id.replace(/^[^/]+\//, '').replaceAll('/', '_')
}

function vocXml({ path, width, height, lesions }: ImageRecord): string {
  const objects = lesions.map(({ class: name, ignore, box: [x1, y1, x2, y2] }) =>
    [
      '  <object>',
      `    <name>${escapeXml(name)}</name>`,
      `    <difficult>${ignore ? 1 : 0}</difficult>`,
      `    <bndbox><xmin>${x1 + 1}</xmin><ymin>${y1 + 1}</ymin><xmax>${x2}</xmax><ymax>${y2}</ymax></bndbox>`,
      '  </object>',
    ].join('\n'),
  )
  return [
    '<annotation>',
    `  <filename>${escapeXml(path)}</filename>`,
    `  <size><width>${width}</width><height>${height}</height><depth>1</depth></size>`,
    ...objects,
    '</annotation>',
    '',
  ].join('\n')
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
