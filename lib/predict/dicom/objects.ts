// All result objects of one study as bytes: planned once, written in the wanted forms, checked before they are handed out. Which files
// they become and what happened to earlier ones is the caller's business.
import { type DicomJson, firstText, writeDataset } from '../../data/dicom/dataset.js'
import { InternalError } from '../../errors.js'
import { cadSr } from './cad-sr.js'
import { checkReport } from './check.js'
import { gsps } from './gsps.js'
import { objectIdentity, type ResultKind } from './header.js'
import type { Reference, Report } from './report.js'
import { secondaryCapture } from './secondary-capture.js'
import { tid1500 } from './tid1500.js'

export const RESULT_KINDS = ['cad-sr', 'tid1500', 'gsps', 'sc'] as const satisfies readonly ResultKind[]

export interface ResultObject {
  kind: ResultKind
  instance: string
  /** Index of the image in the report; null for a report on all of them. */
  image: number | null
  bytes: Uint8Array
}

export interface ObjectSources {
  /** Pixels of image `n`, asked for pictures only. */
  pixels(n: number): Promise<Uint16Array>
  /** Longer side of pictures. */
  maxSide: number
  /** True for objects that exist already and need not be made again. */
  exists?: (kind: ResultKind, instance: string) => boolean
  /** Earlier reports on the study, by kind. */
  predecessors?: (kind: ResultKind) => readonly Reference[]
}

/** Objects one by one, so that pictures need not be in memory together. Images that failed have no marks and no picture. */
export async function* resultObjects(
  report: Report,
  kinds: readonly ResultKind[],
  sources: ObjectSources,
): AsyncGenerator<ResultObject, void, undefined> {
  const { exists = () => false, predecessors = () => [] } = sources
  for (const kind of kinds) {
    if (kind === 'cad-sr' || kind === 'tid1500') {
      if (exists(kind, objectIdentity(report, kind).instance)) continue
      const dataset = (kind === 'cad-sr' ? cadSr : tid1500)(report, predecessors(kind))
      checked(dataset, report)
      yield object(kind, null, dataset)
      continue
    }
    for (const [n, { failure }] of report.images.entries()) {
      if (failure !== null || exists(kind, objectIdentity(report, kind, String(n + 1)).instance)) continue
      const dataset = kind === 'gsps' ? gsps(report, n) : secondaryCapture(report, n, await sources.pixels(n), sources)
      if (dataset !== undefined) yield object(kind, n, dataset)
    }
  }
}

function object(kind: ResultKind, image: number | null, dataset: DicomJson): ResultObject {
  return { kind, instance: firstText(dataset, '00080018'), image, bytes: writeDataset(dataset) }
}

/** A report with a fault never leaves; it would be a bug of this software. */
function checked(dataset: DicomJson, report: Report): void {
  const matrices = new Map(report.images.map(({ source }) => [source.instance, source]))
  const faults = checkReport(dataset, matrices)
  if (faults.length > 0) {
    throw new InternalError(`a report does not follow its template: ${faults.slice(0, 5).join('; ')}`)
  }
}
