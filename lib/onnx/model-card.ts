// The model card in Markdown, generated from the manifest and nothing else.
import type { ModelManifest } from './manifest.js'

export function modelCard(manifest: ModelManifest): string {
  const { file, input, output, provenance, parity } = manifest
  const shape = manifest.shape === 'dynamic' ? `any multiple of ${input.padMultiple}` : manifest.shape.join(' x ')
  const list = (items: string[]) => items.map((item) => `- ${item}`).join('\n')
  const table = (rows: [string, string][]) =>
    ['| | |', '|---|---|', ...rows.map(([a, b]) => `| ${a} | ${b} |`)].join('\n')
  const points = manifest.operatingPoints.map(
    (p) =>
      `| ${digits(p.threshold)} | ${p.sensitivity.toFixed(3)} | ${p.falsePositivesPerImage.toFixed(3)} | ${p.images} | ${p.interval ? p.interval.map((value) => value.toFixed(3)).join(' to ') : 'not measured'} |`,
  )
  return `${[
    `# ${manifest.name} ${manifest.version}`,
    manifest.intendedUse.text,
    list(manifest.intendedUse.warnings),
    '## File',
    table([
      ['file', `${file.path}, ${file.bytes} bytes`],
      ['sha256', `\`${file.sha256}\``],
      ['format', `ONNX opset ${file.opset}, IR version ${file.irVersion}, ${manifest.precision}`],
      ['graph', manifest.graph],
      ['input size', shape],
    ]),
    '## Input',
    list([
      `\`image\`: ${input.type} [N, ${input.normalisedInGraph ? 1 : input.channels}, H, W], ${input.intensity}; padded right and bottom with ${input.padValue}`,
      `normalisation: ${input.normalise}${input.normalise === 'dataset' ? `, mean ${input.mean.map(digits).join(', ')}, standard deviation ${input.std.map(digits).join(', ')}` : ''}${input.normalisedInGraph ? ', inside the graph' : ', by the caller'}`,
      `breast crop: ${input.crop.enabled ? `on, ${input.crop.algorithm}` : 'off'}`,
      `scale: ${input.resize.rule === 'none' ? 'as acquired' : input.resize.rule === 'sides' ? `shorter side ${input.resize.minSide}, longer at most ${input.resize.maxSide} pixels` : `${input.resize.spacingMm === null ? 'unknown' : digits(input.resize.spacingMm)} mm per pixel`}`,
      `pixel spacing of the training images: ${input.trainingSpacingMm === null ? 'unknown' : `${digits(input.trainingSpacingMm)} mm`}`,
    ]),
    '## Output',
    list([
      `${output.names.map((name) => `\`${name}\``).join(', ')}: ${output.coordinates}`,
      `scores above ${output.scoreFloor}, at most ${output.maxDetections} boxes per image, NMS at IoU ${output.nmsIou}`,
      `classes: ${manifest.classes.map(({ index, name }) => `${index} ${name}`).join(', ')}`,
      `calibration: ${manifest.calibration === 'none' ? 'none; a score is not a probability' : `${manifest.calibration.method}, ${manifest.calibration.parameters.map(digits).join(', ')}, on ${manifest.calibration.data}`}`,
    ]),
    '## Operating points',
    points.length === 0
      ? `None measured. Default threshold ${manifest.defaultThreshold}.`
      : [
          '| threshold | sensitivity | FP/image | images | 95 % of the sensitivity |',
          '|---|---|---|---|---|',
          ...points,
        ].join('\n'),
    ...accuracyParts(manifest),
    '## Where it comes from',
    table([
      ['run', provenance.run ?? 'not recorded'],
      ['preset', provenance.preset ?? 'none'],
      ['semantics', provenance.semantics],
      ['tool', `mammo-retinanet ${provenance.toolVersion}${provenance.commit ? ` (${provenance.commit})` : ''}`],
      ['checkpoint sha256', provenance.checkpointSha256 ?? 'not recorded'],
      ['dataset', provenance.dataset ? `${provenance.dataset.adapter}, ${provenance.dataset.hash}` : 'not recorded'],
      ['licence of the data', provenance.dataset?.licence ?? 'not recorded'],
      ['device UID', provenance.deviceUID],
    ]),
    '## Check against the training engine',
    parity.verified
      ? `${parity.matched} detections on ${parity.images.length} images agree: scores within ${parity.worstScore.toExponential(1)}, corners within ${parity.worstBoxPixels.toExponential(1)} px, ${parity.borderline.length} at a cut. Runtime ${parity.runtime}, engine ${parity.engine}, ${parity.cpu}.`
      : `Not verified: ${parity.reason}.`,
  ].join('\n\n')}\n`
}

/** Six significant digits: the manifest has them all. */
function digits(value: number): string {
  return String(Number(value.toPrecision(6)))
}

/** What a lower precision costs, as a table. */
function accuracyParts({ accuracy, precision }: ModelManifest): string[] {
  if (accuracy === null || accuracy === undefined) return []
  const three = (value: number | null) => (value === null ? 'undefined' : value.toFixed(3))
  const row = (name: string, d: typeof accuracy.ap50) =>
    `| ${name} | ${three(d.fp32)} | ${three(d.value)} | ${three(d.difference)} | ${d.interval === null ? '' : d.interval.map(three).join(' to ')} |`
  const { networkSeconds: seconds, bytes, calibration } = accuracy
  return [
    `## ${precision} against fp32`,
    `On ${accuracy.images} images of the ${accuracy.split} part${calibration === null ? '' : `; calibrated on ${calibration.images.length} training images, ${calibration.method}, ${calibration.weightBits}-bit weights`}. Intervals: paired resamples of patients.`,
    [
      `| | fp32 | ${precision} | difference | 95 % |`,
      '|---|---|---|---|---|',
      row('AP50', accuracy.ap50),
      ...accuracy.sensitivity.map((s) => row(`sensitivity at ${s.fppi} FP/image`, s)),
      ...accuracy.recallBySize.map(
        (s) =>
          `| recall, ${s.size} (${s.lesions}) | ${three(s.fp32)} | ${three(s.value)} | ${three(s.value - s.fp32)} | |`,
      ),
      `| largest change of a score | | ${accuracy.worstScoreChange === null ? 'undefined' : accuracy.worstScoreChange.toFixed(4)} | | |`,
      `| seconds of the network | ${seconds.fp32.toFixed(3)} | ${seconds.value.toFixed(3)} | ${(seconds.fp32 / seconds.value).toFixed(2)}x | |`,
      `| bytes | ${bytes.fp32} | ${bytes.value} | | |`,
    ].join('\n'),
  ]
}
