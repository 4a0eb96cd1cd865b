// `predict --watch`: a folder that is never finished. Files are claimed, predicted, reported and put away one after the other in an
// order in which a crash at any moment loses none and reports none twice: claim (rename), journal (synced line), result files
// (whole, same names), study report (same UIDs), put away (rename). A restart does the steps that are missing.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { extname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { removeUnfinished } from '../atomic-write.js'
import type { PredictedFile } from '../predict/dicom/studies.js'
import { openInbox, STATES } from '../predict/inbox.js'
import { type JournalEntry, openJournal } from '../predict/journal.js'
import type { Prediction } from '../predict/results.js'
import { DICOM_OUTPUTS } from './names.js'
import { openDetector, outputOptions, type PredictTaskOptions, predictFile, settingsText } from './predict.js'
import { IMAGE_EXTENSIONS, studyOf } from './predict-inputs.js'
import { openOutput } from './predict-output.js'

export interface WatchOptions extends Omit<PredictTaskOptions, 'shard' | 'resume' | 'onResult'> {
  /** Pause between looks at the folder; 1000 by default. */
  pollMs?: number
  /** A file without a `.done` marker is taken when it did not change for so long; 2000 by default. */
  settleMs?: number
  /** A study is reported when no image of it came for so long; 10 000 by default. Only with DICOM results. */
  quietMs?: number
  /** End when the folder is empty and all is reported, instead of watching on. */
  untilIdle?: boolean
  onResult?: (result: Prediction) => void
}

export interface WatchSummary {
  /** Files put into `done/` and `failed/` by this process. */
  done: number
  failed: number
}

/** Tries of a file whose worker is lost or too slow, before it is put away as failed. */
const ATTEMPTS = 2
/** Files claimed at a time per worker: what is claimed is soon predicted. */
const CLAIMS_PER_WORKER = 4

/**
 * Watches `folder` until `signal`, or until it is empty with `untilIdle`. Throws UsageError BUSY while another process watches it,
 * UsageError ARGUMENT when `out` holds results of another model or other settings, DeviceError when the disk is full.
 */
export async function watch(model: string, folder: string, options: WatchOptions): Promise<WatchSummary> {
  const { pollMs = 1000, settleMs = 2000, quietMs = 10_000, untilIdle = false, signal } = options
  const { onResult, onError, onWarning = () => undefined } = options
  const detector = await openDetector(model, { isolation: 'process', ...options })
  const { manifest } = detector
  const run = { model: manifest.file.sha256, settings: settingsText(options, manifest) }
  const reports = DICOM_OUTPUTS.some((kind) => options.outputs.includes(kind))
  const summary: WatchSummary = { done: 0, failed: 0 }
  const closers: (() => Promise<void>)[] = [() => detector.close()]
  try {
    const writer = await openOutput(manifest, { ...outputOptions(options, manifest), onWarning })
    /** Names of results that no new file may have. */
    const taken = new Set<string>()
    const inbox = await openInbox(folder, { settleMs, claimName: (file) => uniqueName(file, taken) })
    closers.push(() => inbox.close())
    const journal = await openJournal(join(options.out, 'journal.jsonl'), { ...run, resume: true })
    closers.push(() => journal.close())
    await removeUnfinished(options.out)
    for (const name of journal.entries.keys()) taken.add(name)
    // Put away with another --out, and so unknown to this journal: still nobody's name to take.
    for (const file of await inbox.putAway()) taken.add(resultName(file))

    const waiting = await inbox.leftOver()
    for (const file of waiting) taken.add(resultName(file))
    const attempts = new Map<string, number>()
    /** Predicted files of a study whose report is due, and when the last of them came. */
    const open = new Map<string, { files: Set<string>; last: number }>()
    let unwritten = false

    const finish = async (file: string, { result }: JournalEntry) => {
      const failed = !('schema' in result)
      await inbox.finish(file, failed ? result : null)
      summary[failed ? 'failed' : 'done']++
      attempts.delete(file)
    }
    const one = async (file: string) => {
      const path = inbox.path('claimed', file)
      const name = resultName(file)
      let entry = journal.entries.get(name)
      const repeated = entry !== undefined
      if (entry === undefined) {
        const outcome = await predictFile(detector, path, name, options)
        if (outcome.entry === undefined) {
          const tries = (attempts.get(file) ?? 0) + 1
          attempts.set(file, tries)
          if (tries < ATTEMPTS) {
            waiting.push(file)
            return
          }
          const { code, message } = outcome.error
          entry = { name, bytes: 0, mtimeMs: 0, study: null, file, result: { code, message } }
        } else entry = { ...outcome.entry, file }
        const study = reports ? await studyOf(path) : null
        entry = { ...entry, study: study === null ? null : digest(study) }
        await journal.append(entry)
        if ('schema' in entry.result) onResult?.(entry.result)
        else if (outcome.error !== undefined) onError?.(path, outcome.error)
      }
      if ('schema' in entry.result) await writer.image(path, entry.result, repeated)
      unwritten = true
      if (entry.study === null) return finish(file, entry)
      const study = open.get(entry.study) ?? { files: new Set<string>(), last: 0 }
      open.set(entry.study, study)
      study.files.add(file)
      study.last = Date.now()
    }
    const report = async (study: string, files: ReadonlySet<string>) => {
      // Earlier images of the study too: late ones make a new report of all, which names the earlier one.
      const predicted: PredictedFile[] = []
      for (const { study: other, file, result } of journal.entries.values()) {
        if (other !== study || file === null) continue
        const path = STATES.map((state) => inbox.path(state, file)).find(existsSync)
        if (path !== undefined) predicted.push({ path, result: 'schema' in result ? result : result.code })
      }
      await writer.studies(predicted)
      for (const file of files) await finish(file, journal.entries.get(resultName(file))!)
      open.delete(study)
    }
    const collect = async () => {
      const entries = [...journal.entries.values()]
      const rejected = entries.flatMap(({ name, result }) => ('schema' in result ? [] : [{ name, ...result }]))
      const predictions = entries.flatMap(({ result }) => ('schema' in result ? [result] : []))
      const paths = new Map(
        entries.flatMap(({ name, file }) => (file === null ? [] : [[name, inbox.path('done', file)] as const])),
      )
      await writer.collected(predictions, rejected, paths)
      unwritten = false
    }

    while (!signal?.aborted) {
      if (waiting.length === 0) waiting.push(...(await inbox.claim(CLAIMS_PER_WORKER * detector.workers)))
      const batch = waiting.splice(0)
      const lane = async () => {
        for (let file = batch.shift(); file !== undefined; file = batch.shift()) {
          if (signal?.aborted) return
          await one(file)
        }
      }
      const ends = await Promise.allSettled(Array.from({ length: detector.workers + 1 }, lane))
      const failed = ends.find((end) => end.status === 'rejected')
      if (failed) {
        if (signal?.aborted) break
        throw failed.reason
      }
      const now = Date.now()
      for (const [study, { files, last }] of open) if (now - last >= quietMs) await report(study, files)
      if (waiting.length > 0) continue
      const idle = inbox.arriving === 0 && open.size === 0
      if (unwritten && idle) await collect()
      if (untilIdle && idle && (await inbox.claim(0)).length === 0 && inbox.arriving === 0) break
      await sleep(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined)
    }
    if (unwritten) await collect()
    return summary
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

/** A file's name in the results: without the extension of an image. */
function resultName(file: string): string {
  const extension = extname(file)
  return IMAGE_EXTENSIONS.has(extension.toLowerCase()) ? file.slice(0, -extension.length) : file
}

/** A name below `claimed/` whose result has no name of an earlier one; a file that comes again is a new file. */
function uniqueName(file: string, taken: Set<string>): string {
  const base = resultName(file)
  const extension = file.slice(base.length)
  let name = base
  for (let n = 2; taken.has(name); n++) name = `${base}-${n}`
  taken.add(name)
  return `${name}${extension}`
}

function digest(study: string): string {
  return createHash('sha256').update(study).digest('hex').slice(0, 32)
}
