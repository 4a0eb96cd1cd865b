// One image to detections with an exported model in onnxruntime-node, as a predictor's worker runs it.
import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { packageRoot } from '../../lib/package-root.js'
import type { Measurement } from '../trials.js'
import { type FileSetting, writeBenchModel } from './onnx-file.js'

interface Setting extends FileSetting {
  warmup?: number
  count?: number
  films?: boolean
}

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const setting = options as unknown as Setting
  const model = await writeBenchModel(setting)
  try {
    const { height, width, threads, warmup = 1, count = 5 } = setting
    const films = setting.films ? realFilms() : undefined
    const request = { model, height, width, threads, warmup, count, ...(films === undefined ? {} : { films }) }
    const child = spawn(process.execPath, [join(packageRoot(), 'dist', 'bench', 'trials', 'infer-child.js')], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    child.stdin.end(JSON.stringify(request))
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
    })
    const code = await new Promise((resolve) => child.on('close', resolve))
    if (code !== 0) throw new Error(`infer-child ended with code ${code}`)
    return JSON.parse(text.trim().split('\n').at(-1)!) as Measurement
  } finally {
    await rm(dirname(model), { recursive: true, force: true })
  }
}

/** Full-resolution films of the data folder. */
function realFilms(): string[] {
  const folder = join(process.env['MAMMO_DATA'] ?? join(packageRoot(), '..', 'shared', 'data'), 'cbis-ddsm-fullres')
  if (!existsSync(folder)) throw new Error(`expected real films in ${folder}; set MAMMO_DATA`)
  return readdirSync(folder)
    .filter((name) => name.endsWith('.jpg'))
    .sort()
    .slice(0, 2)
    .map((name) => join(folder, name))
}
