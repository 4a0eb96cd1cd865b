// Which images a prediction is about: files, folders and manifests as a list of names and paths, and a share of it for one of many
// machines.
import { readdir, readFile, stat } from 'node:fs/promises'
import { dirname, extname, join, relative, resolve } from 'node:path'
import { readSourceImage } from '../data/dicom/source.js'
import { DataError, UsageError } from '../errors.js'

export interface ListedImage {
  path: string
  /** Name of the result files: path below the input, without extension. */
  name: string
}

/** One of `count` parts, `index` from 1. */
export interface Shard {
  index: number
  count: number
}

export const IMAGE_EXTENSIONS: ReadonlySet<string> = new Set([
  ...['.dcm', '.dicom', '.png', '.jpg', '.jpeg', '.tif', '.tiff', '.pgm'],
])

/** All images of the inputs, with unique names. Throws UsageError for inputs without images, DataError MANIFEST. */
export async function listInputs(inputs: readonly string[]): Promise<ListedImage[]> {
  const images = withUniqueNames((await Promise.all(inputs.map(listImages))).flat())
  if (images.length > 0) return images
  throw new UsageError('ARGUMENT', `expected at least one image in ${inputs.join(', ')}, got none`, {
    fix: `images end in ${[...IMAGE_EXTENSIONS].join(', ')}`,
  })
}

async function listImages(input: string): Promise<ListedImage[]> {
  const info = await stat(input).catch(() => undefined)
  if (info === undefined)
    throw new UsageError('ARGUMENT', 'expected an image, a folder or a manifest.jsonl, nothing exists there', {
      where: input,
      fix: 'check the path',
    })
  const plain = (path: string, root: string) => ({ path, name: nameBelow(root, path) })
  if (info.isDirectory()) {
    const entries = await readdir(input, { recursive: true, withFileTypes: true })
    const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
    const images = files.filter((file) => IMAGE_EXTENSIONS.has(extname(file).toLowerCase()))
    return images.sort().map((path) => plain(path, input))
  }
  if (input.endsWith('.jsonl')) return listManifest(input)
  return [plain(input, dirname(input))]
}

function nameBelow(root: string, path: string): string {
  return relative(root, path)
    .slice(0, -extname(path).length || undefined)
    .replaceAll('\\', '/')
}

/** Images of a manifest.jsonl by their ids. */
async function listManifest(path: string): Promise<ListedImage[]> {
  const lines = (await readFile(path, 'utf8')).split('\n')
  const rows = lines.flatMap((line, n) => {
    if (line.trim() === '') return []
    try {
      return [{ n: n + 1, value: (JSON.parse(line) ?? {}) as Record<string, unknown> }]
    } catch {
      return [{ n: n + 1, value: {} as Record<string, unknown> }]
    }
  })
  const root = resolve(dirname(path), String(rows[0]?.value['root'] ?? '.'))
  return rows.slice(1).map(({ n, value: { id, path: file } }) => {
    if (typeof id === 'string' && id !== '' && !id.split('/').includes('..') && typeof file === 'string') {
      return { path: join(root, file), name: id }
    }
    throw new DataError('MANIFEST', 'expected one JSON object per line, a header and then records with id and path', {
      where: `${path}:${n}`,
      fix: 'give a manifest.jsonl of `data prepare`',
    })
  })
}

/** Two images of one name must not share result files: the second becomes `name-2`. */
function withUniqueNames(images: readonly ListedImage[]): ListedImage[] {
  const used = new Set<string>()
  return images.map((image) => {
    let name = image.name
    for (let n = 2; used.has(name); n++) name = `${image.name}-${n}`
    used.add(name)
    return { ...image, name }
  })
}

/**
 * The part of one shard: every `count`-th group of the list. With `wholeStudies` the DICOM images of a study are one group, so that
 * its report is written by one shard; otherwise every image is.
 */
export async function takeShard(
  images: readonly ListedImage[],
  { index, count }: Shard,
  wholeStudies: boolean,
): Promise<ListedImage[]> {
  const groups = new Map<string, number>()
  const mine: ListedImage[] = []
  for (const image of images) {
    const key = (wholeStudies ? await studyOf(image.path) : null) ?? `image ${image.name}`
    if (!groups.has(key)) groups.set(key, groups.size)
    if (groups.get(key)! % count === index - 1) mine.push(image)
  }
  return mine
}

/** StudyInstanceUID of a DICOM image; null for everything else. */
export async function studyOf(path: string): Promise<string | null> {
  try {
    return (await readSourceImage(path)).study
  } catch (error) {
    if (error instanceof DataError) return null
    throw error
  }
}

/** `i/n` of a command line. Throws UsageError ARGUMENT. */
export function parseShard(text: string): Shard {
  const match = /^(\d+)\/(\d+)$/.exec(text)
  const [index, count] = [Number(match?.[1]), Number(match?.[2])]
  if (match === null || index < 1 || index > count) {
    throw new UsageError('ARGUMENT', `--shard: expected i/n with 1 <= i <= n, got "${text}"`, {
      fix: 'write --shard 1/4 for the first of four parts',
    })
  }
  return { index, count }
}
