// `anchors report`: what the anchors of a configuration can teach about the lesions of a dataset.
import type { AnchorReport } from '../../tasks/anchors.js'
import { type CommandFile, numberOption } from '../command.js'
import { dataConfig, declarePreset, declareReading, type ReadingFlags, sourceOptions } from '../reading-options.js'

export const anchorsReportCommand: CommandFile = {
  name: 'anchors report',
  summary: 'anchors per level, positives per lesion, lesions that no anchor reaches, recall by size',
  examples: ['anchors report prepared', 'anchors report prepared --preset inbreast-two-stage --iou 0.5'],
  declare: (command) => {
    command
      .argument('<dir>', 'prepared folder, or a dataset as it was downloaded')
      .option('--iou <t>', 'IoU that makes an anchor positive; default matcher.positiveIou', numberOption)
    declarePreset(command)
    declareReading(command)
  },
  async run(io, global, options, [dir]) {
    const { anchorReport } = await import('../../tasks/anchors.js')
    const flags = options as unknown as ReadingFlags & { preset?: string; iou?: number }
    const config = await dataConfig(global, flags.preset)
    const report = await anchorReport(dir!, {
      ...(await sourceOptions(flags, io)),
      config,
      ...(flags.iou === undefined ? {} : { iou: flags.iou }),
    })
    io.stdout(global.json ? `${JSON.stringify(report, null, 2)}\n` : anchorText(report))
    return 0
  },
}

/** The report as lines of text; for a report with boxes. */
export function anchorText({ images, positiveIou, coverage, sizes, missed }: AnchorReport): string {
  const lines = [
    `anchors: ${coverage.boxes.length} lesions on ${images} images, positive from IoU ${positiveIou}`,
    `  best IoU mean ${coverage.meanBestIou!.toFixed(3)}, least ${coverage.minimumBestIou!.toFixed(3)}; positives per lesion, median ${coverage.medianPositives}; lesions without a positive anchor ${missed.length}`,
    '  level  anchors/image   share  positives  lesions only here',
    ...coverage.levels.map(
      (l) =>
        `  P${String(l.level).padEnd(4)} ${String(Math.round(l.anchors)).padStart(14)} ${(100 * l.share).toFixed(1).padStart(6)}% ${String(l.positives).padStart(10)} ${String(l.onlyHere).padStart(18)}${l.idle ? '  (no lesion needs it)' : ''}`,
    ),
    '  side in network px  lesions  covered  recall  mean best IoU',
    ...sizes.map((s) => {
      const range = s.to === null ? `${s.from} and more` : `${s.from} to ${s.to}`
      return `  ${range.padEnd(18)} ${String(s.boxes).padStart(8)} ${String(s.covered).padStart(8)} ${s.recall.toFixed(3).padStart(7)} ${s.meanBestIou.toFixed(3).padStart(14)}`
    }),
    ...missed.slice(0, 10).map((m) => `  no anchor: ${m.id} best IoU ${m.bestIou.toFixed(3)}`),
    ...(missed.length > 10 ? [`  and ${missed.length - 10} more`] : []),
  ]
  return `${lines.join('\n')}\n`
}
