// What the tests of bad input share: a command line called in this process, a small COCO dataset to spoil, and a way to see that files
// stayed as they were, byte for byte.
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { Test } from 'tap'
import type { Io } from '../../lib/cli/io.js'
import { runCli } from '../../lib/cli/main.js'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import { breastPixels } from '../data/fixtures.js'

export interface Ended {
  code: number
  out: string
  err: string
}

/** Calls the command line without a process. */
export async function cli(...argv: string[]): Promise<Ended> {
  let out = ''
  let err = ''
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
  const code = await runCli(argv, io)
  return { code, out, err }
}

/** sha256 of every file below a folder by relative path. */
export function snapshot(folder: string): Record<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  // The journal of `predict` tells about the present run, whatever comes of it.
  const wanted = entries.filter((entry) => entry.isFile() && entry.name !== 'journal.jsonl')
  const files = wanted.map((entry) => join(entry.parentPath, entry.name))
  const hash = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex')
  return Object.fromEntries(files.sort().map((file) => [relative(folder, file), hash(file)]))
}

export interface Coco {
  images: Record<string, unknown>[]
  annotations: Record<string, unknown>[]
  categories: Record<string, unknown>[]
}

/** Four images of four patients with one mass each, and the annotations that describe them. */
export function sampleCoco(): Coco {
  const names = ['a', 'b', 'c', 'd']
  return {
    images: names.map((name, id) => ({ id, file_name: `${name}.png`, width: 96, height: 128 })),
    annotations: names.map((_, id) => ({ id: id + 1, image_id: id, category_id: 1, bbox: [10 + id, 40, 20, 24] })),
    categories: [{ id: 1, name: 'mass' }],
  }
}

/** Writes the dataset; `spoil` changes the annotations first. */
export async function writeCoco(folder: string, spoil: (coco: Coco) => void = () => undefined): Promise<string> {
  mkdirSync(folder, { recursive: true })
  const coco = sampleCoco()
  for (const [seed, image] of coco.images.entries()) {
    const png = await encodeGrey16Png(breastPixels(96, 128, seed), 96, 128)
    writeFileSync(join(folder, String(image['file_name'])), png)
  }
  spoil(coco)
  writeFileSync(join(folder, 'annotations.json'), JSON.stringify(coco))
  return folder
}

export interface Expected {
  exit: number
  /** Without `ERR_MAMMO_`. */
  code: string
  message?: RegExp
  where?: string | RegExp
}

/** Checks an error of the command line: the only thing printed, with its code, place and remedy. */
export function refused(t: Test, { code, out, err }: Ended, expected: Expected): void {
  t.equal(code, expected.exit, err)
  t.equal(out, '', 'nothing on stdout')
  const parts = /(?:^|\n)error (ERR_MAMMO_\w+): (.*?)(?:\n {2}where: ([^\n]*))?\n {2}fix: {3}(\S[^\n]*)\n$/s.exec(err)
  if (parts === null) {
    t.fail(`expected one error with a remedy at the end of stderr, got: ${err}`)
    return
  }
  t.equal(parts[1], `ERR_MAMMO_${expected.code}`, err)
  t.equal(err.split('error ERR_MAMMO_').length, 2, 'told once')
  if (expected.message !== undefined) t.match(parts[2], expected.message)
  if (typeof expected.where === 'string') t.equal(parts[3], expected.where)
  else if (expected.where !== undefined) t.match(parts[3] ?? '', expected.where)
}
