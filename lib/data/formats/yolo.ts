// YOLO text labels, read and written: labels/**.txt beside images/**, lines `class cx cy w h` in shares of the image, a names file. An
// empty label file is a negative; a missing one is unknown, or a negative with --missing-is-negative.
import { basename, join } from 'node:path'
import { parse as parseYaml } from 'yaml'
import { DataError } from '../../errors.js'
import type { Adapter, AdapterOptions, Dataset, ImageRecord, Problem, SplitHint } from '../types.js'
import { collect, type Draft, type DraftLesion, isFile, isFolder, listFiles, noDataset, stem } from './collect.js'
import { readText } from './table.js'
import { fileName } from './voc.js'

const VERSION = 1
const NAMES = ['data.yaml', 'dataset.yaml', 'classes.txt', 'obj.names', 'labels/classes.txt']

export const yolo: Adapter = {
  name: 'yolo',
  version: VERSION,
  detect: async (root) => (await isFolder(join(root, 'labels'))) && (await findNames(root)) !== undefined,
  read,
}

/** Reads a YOLO folder. Throws ERR_MAMMO_ANNOTATION without names file or images. */
async function read(root: string, options: AdapterOptions = {}): Promise<Dataset> {
  const missingIsNegative = options.yolo?.missingIsNegative ?? false
  const namesFile = options.classesFile ?? (await findNames(root))
  if (namesFile === undefined)
    throw noDataset('a names file such as data.yaml or classes.txt', root, 'name it with --classes-file')
  const path = (await isFile(namesFile)) ? namesFile : join(root, namesFile)
  const names = parseNames(await readText(path), namesFile)
  const files = await listFiles(root)
  const known = new Set(files)
  const images = files.filter((file) => /\.(png|jpe?g|tiff?|pgm|dcm)$/i.test(file))
  if (images.length === 0) throw noDataset('images', root, 'choose the folder that holds images and labels')
  const problems: Problem[] = []
  const drafts: Draft[] = []
  const used = new Set<string>()
  for (const image of images) {
    const label = labelPath(image)
    const present = known.has(label)
    used.add(label)
    const lesions = present ? parseLabels(await readText(join(root, label)), label, names, problems) : []
    drafts.push({
      id: stem(image).replace(/^images\//, ''),
      path: image,
      split: splitOf(image),
      annotated: present || missingIsNegative,
      lesions,
      annotationFile: present ? label : null,
      where: present ? label : image,
    })
  }
  const unknown = drafts.filter((draft) => !draft.annotated).length
  if (unknown > 0) {
    problems.push({
      rule: 'yolo/missing-label',
      level: 'warning',
      message: `${unknown} images have no label file and count as not annotated`,
      where: root,
      fix: 'add empty label files, or set --missing-is-negative',
    })
  }
  for (const file of files) {
    if (!/(^|\/)labels\/.*\.txt$/.test(file) || used.has(file) || basename(file) === 'classes.txt') continue
    problems.push({
      rule: 'manifest/missing-file',
      level: 'error',
      message: `no image for ${file}`,
      where: file,
      fix: 'restore the image or remove the label file',
    })
  }
  return collect(root, drafts, problems, options, {
    adapter: 'yolo',
    version: VERSION,
    labelRules: { classes: names.map((name) => name.toLowerCase()), missingIsNegative },
  })
}

/** Lesions of one label file; faulty lines become problems. */
export function parseLabels(text: string, file: string, names: readonly string[], problems: Problem[]): DraftLesion[] {
  const lesions: DraftLesion[] = []
  for (const [n, line] of text.split(/\r?\n/).entries()) {
    const cells = line.trim().split(/\s+/)
    if (cells[0] === '') continue
    const where = `${file}:${n + 1}`
    const fail = (rule: string, message: string) =>
      problems.push({ rule, level: 'error', message, where, fix: 'write class cx cy w h, with shares of the image' })
    const numbers = cells.map(Number)
    const [index = Number.NaN, cx = 0, cy = 0, w = 0, h = 0] = numbers
    const name = names[index]
    if (cells.length !== 5) fail('yolo/columns', `line must have 5 numbers, has ${cells.length}`)
    else if (!numbers.every(Number.isFinite)) fail('yolo/number', `line must have 5 numbers, is "${line.trim()}"`)
    else if (name === undefined) fail('yolo/class', `class ${cells[0]} is unknown; known: 0..${names.length - 1}`)
    else if ([cx, cy, w, h].some((value) => Math.abs(value) > 2))
      fail('yolo/range', 'values must be shares of the image in 0..1')
    else {
      lesions.push({
        id: `line${n + 1}`,
        class: name.toLowerCase(),
        box: (width, height) =>
          [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height].map(tidy) as never,
        source: { file, index: lesions.length, name },
        where,
      })
    }
  }
  return lesions
}

/** Shares have few digits: a corner within a millionth of a pixel of an integer is that integer, so that borders are not crossed. */
function tidy(value: number): number {
  const whole = Math.round(value)
  return Math.abs(value - whole) < 1e-6 ? whole : value
}

/** Names from lines, or from the key `names` (list or map) of a YAML file. */
function parseNames(text: string, file: string): string[] {
  if (!/\.ya?ml$/.test(file))
    return text
      .split(/\r?\n/)
      .map((name) => name.trim())
      .filter((name) => name !== '')
  const bad = () =>
    new DataError('ANNOTATION', 'expected the key names with class names in a YAML file', {
      where: file,
      fix: 'write names: [mass]',
      details: { rule: 'yolo/names' },
    })
  let content: unknown
  try {
    content = parseYaml(text)
  } catch {
    throw bad()
  }
  const names = (content as { names?: unknown } | null)?.names
  if (Array.isArray(names)) return names.map(String)
  if (typeof names !== 'object' || names === null) throw bad()
  const list: string[] = []
  for (const [id, name] of Object.entries(names)) list[Number(id)] = String(name)
  return list
}

/** `images/` becomes `labels/` where there is one; else the label lies beside the image. */
function labelPath(image: string): string {
  const parts = image.split('/')
  const at = parts.lastIndexOf('images')
  if (at >= 0) parts[at] = 'labels'
  return `${stem(parts.join('/'))}.txt`
}

function splitOf(image: string): SplitHint | null {
  for (const part of image.split('/').slice(0, -1)) {
    if (part === 'train' || part === 'test' || part === 'val') return part
    if (part === 'valid' || part === 'validation') return 'val'
  }
  return null
}

async function findNames(root: string): Promise<string | undefined> {
  for (const name of NAMES) if (await isFile(join(root, name))) return name
  return undefined
}

/** Files of a YOLO dataset for records, by path; the images belong at `images/<name>` beside the labels. */
export function yoloFiles(records: readonly ImageRecord[]): Map<string, string> {
  const names = [...new Set(records.flatMap((record) => record.lesions.map((lesion) => lesion.class)))].sort()
  const files = new Map<string, string>([['classes.txt', names.map((name) => `${name}\n`).join('')]])
  for (const record of records) {
    const { width, height } = record
    const folder = record.split === null ? '' : `${record.split}/`
    const lines = record.lesions.map(({ class: name, box: [x1, y1, x2, y2] }) =>
      [names.indexOf(name), (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height].join(
        ' ',
      ),
    )
    files.set(`labels/${folder}${fileName(record)}.txt`, lines.map((line) => `${line}\n`).join(''))
  }
  return files
}
