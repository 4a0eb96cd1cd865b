// The sidecar of an exported model, `model.manifest.json`: what the file is, what it expects, how it was made and measured. One schema
// for writer and reader. The same text without its `file` and `parity` blocks travels inside the ONNX file as metadata.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { z } from 'zod'
import { DataError } from '../errors.js'

export const MANIFEST_SCHEMA = 'mammo-retinanet/model@1'

const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
const positive = z.number().positive()
const size = z.tuple([z.number().int().positive(), z.number().int().positive()])

/** Everything a predictor must do before the network, as the training did it. */
export const inputSchema = z.object({
  name: z.literal('image'),
  type: z.enum(['uint16', 'float32']),
  layout: z.literal('NCHW'),
  channels: z.number().int().positive(),
  padMultiple: z.number().int().positive(),
  padValue: z.literal(0),
  crop: z.object({
    enabled: z.boolean(),
    algorithm: z.string().describe('version of the breast finder'),
    margin: z.number().min(0).describe('safety margin on every edge, share of the longer side'),
  }),
  intensity: z.string().describe('how grey levels were made from the file'),
  normalise: z.enum(['dataset', 'image']),
  mean: z.array(z.number()),
  std: z.array(positive),
  normalisedInGraph: z.boolean(),
  resize: z.object({
    rule: z.enum(['none', 'sides', 'spacing']),
    minSide: positive,
    maxSide: positive,
    spacingMm: positive.nullable(),
    antialias: z.boolean(),
  }),
  trainingSpacingMm: positive.nullable(),
  spacingRule: z.enum(['resample', 'warn', 'ignore']),
  spacingTolerance: z.number().min(0),
  presentationIntents: z.array(z.enum(['FOR PRESENTATION', 'FOR PROCESSING'])),
})

const provenanceSchema = z.object({
  run: z.string().nullable(),
  preset: z.string().nullable(),
  semantics: z.string(),
  toolVersion: z.string(),
  commit: z.string().nullable(),
  checkpointSha256: sha256.nullable(),
  dataset: z.object({ adapter: z.string(), hash: z.string(), licence: z.string().nullable() }).nullable(),
  deviceUID: z.string(),
})

const paritySchema = z.object({
  verified: z.boolean(),
  reason: z.string().nullable().describe('why it was not verified'),
  images: z.array(z.string()),
  runtime: z.string().nullable(),
  engine: z.string().nullable(),
  cpu: z.string().nullable(),
  matched: z.number(),
  worstScore: z.number(),
  worstBoxPixels: z.number(),
  worstBoxRatio: z.number().describe('in units of the tolerance'),
  borderline: z.array(z.string()),
  tolerance: z.record(z.string(), z.number()),
})

const operatingPointSchema = z.object({
  threshold: z.number(),
  sensitivity: z.number(),
  falsePositivesPerImage: z.number(),
  images: z.number().int(),
  interval: z
    .tuple([z.number(), z.number()])
    .nullable()
    .describe('of the sensitivity at this threshold, 95 % by resamples of patients'),
  pipelineHash: z.string(),
})

/** What the file and its metadata share. */
const modelSchema = z.object({
  schema: z.literal(MANIFEST_SCHEMA),
  name: z.string(),
  version: z.string(),
  graph: z.enum(['detect', 'heads']),
  shape: z.union([z.literal('dynamic'), size]).describe('height, width'),
  boxHead: z
    .enum(['everywhere', 'around candidates'])
    .optional()
    .describe('where the box head runs; absent: everywhere. The boxes are the same'),
  precision: z.enum(['fp32', 'fp16', 'int8']),
  provenance: provenanceSchema,
  input: inputSchema,
  output: z.object({
    names: z.array(z.string()),
    coordinates: z.string(),
    scoreFloor: z.number(),
    topkPerLevel: z.number().int().nullable(),
    nmsIou: z.number(),
    maxDetections: z.number().int(),
  }),
  anchors: z.object({
    levels: z.array(z.number().int()),
    strides: z.array(positive),
    sizes: z.array(positive),
    ratios: z.array(positive),
    scales: z.array(positive),
    offset: z.number(),
  }),
  classes: z.array(z.object({ index: z.number().int(), name: z.string(), codes: z.array(z.string()) })),
  calibration: z.union([
    z.literal('none'),
    z.object({ method: z.string(), parameters: z.array(z.number()), data: z.string() }),
  ]),
  operatingPoints: z.array(operatingPointSchema),
  defaultThreshold: z.number(),
  pipeline: z.object({ tiling: z.string(), testTimeAugmentation: z.string(), merge: z.string() }),
  intendedUse: z.object({ text: z.string(), warnings: z.array(z.string()), contact: z.string().nullable() }),
})

const difference = z.object({
  fp32: z.number().nullable(),
  value: z.number().nullable(),
  difference: z.number().nullable(),
  interval: z.tuple([z.number(), z.number()]).nullable().describe('95 %, paired resamples of patients'),
})

/** What a lower precision costs and gains, measured on validation data. */
const accuracySchema = z.object({
  images: z.number().int(),
  split: z.string(),
  calibration: z.object({ method: z.string(), weightBits: z.number().int(), images: z.array(z.string()) }).nullable(),
  ap50: difference,
  sensitivity: z.array(difference.extend({ fppi: z.number() })),
  recallBySize: z.array(z.object({ size: z.string(), lesions: z.number().int(), fp32: z.number(), value: z.number() })),
  worstScoreChange: z.number().nullable().describe('of detections that both precisions have'),
  networkSeconds: z.object({ fp32: z.number(), value: z.number() }),
  bytes: z.object({ fp32: z.number().int(), value: z.number().int() }),
  cpu: z.string().nullable(),
})

const manifestSchema = modelSchema.extend({
  accuracy: accuracySchema.nullable().optional().describe('null or absent in fp32'),
  file: z.object({
    path: z.string().describe('file name at export'),
    bytes: z.number().int().positive(),
    sha256,
    opset: z.number().int(),
    irVersion: z.number().int(),
  }),
  parity: paritySchema,
})

export type ModelDescription = z.infer<typeof modelSchema>
export type ModelManifest = z.infer<typeof manifestSchema>
export type ModelInput = z.infer<typeof inputSchema>
export type AccuracyRecord = z.infer<typeof accuracySchema>
export type ParityRecord = z.infer<typeof paritySchema>
export type Provenance = z.infer<typeof provenanceSchema>

/** Methods of a calibration: logistic regression on the logit, `[slope, offset]`, of being a mass or of being malignant. */
export const CALIBRATION_METHODS = { certainty: 'logistic', malignancy: 'logistic-malignancy' } as const

/** `model.onnx` -> `model.manifest.json`. */
export function manifestPath(model: string): string {
  return `${model.replace(/\.onnx$/i, '')}.manifest.json`
}

/** Reads and checks the sidecar of a model. Throws DataError MODEL_MANIFEST naming the first faulty key. */
export async function readManifest(model: string): Promise<ModelManifest> {
  const path = manifestPath(model)
  const kind = await stat(model).catch(() => undefined)
  if (kind === undefined || kind.isDirectory() || model.endsWith('.safetensors')) {
    const found = kind === undefined ? 'nothing exists there' : kind.isDirectory() ? 'got a folder' : 'got a checkpoint'
    throw new DataError('MODEL_MANIFEST', `expected an ONNX model, ${found}`, {
      where: model,
      fix:
        kind === undefined
          ? 'check the path'
          : 'run `mammo-retinanet export` on it, and give the .onnx file that it writes',
    })
  }
  const fail = (message: string, cause?: unknown) =>
    new DataError('MODEL_MANIFEST', message, {
      where: path,
      fix: 'keep model.onnx and its .manifest.json together as export wrote them, or export again',
      cause,
    })
  const text = await readFile(path, 'utf8').catch((cause) => {
    throw fail('expected a manifest beside the model, got none that can be read', cause)
  })
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw fail('expected JSON, got a damaged file', cause)
  }
  const parsed = manifestSchema.safeParse(value)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw fail(`expected ${MANIFEST_SCHEMA}: ${issue.path.join('.') || 'the whole file'}: ${issue.message}`)
  }
  return parsed.data
}

/** Refuses a model whose bytes are not those of the manifest, or that needs another opset. */
export async function checkModelFile(model: string, manifest: ModelManifest, opset: number): Promise<void> {
  const fix = 'export the model again, or restore the pair of files'
  if (manifest.file.opset !== opset) {
    throw new DataError('MODEL_MANIFEST', `expected opset ${opset}, got ${manifest.file.opset}`, { where: model, fix })
  }
  const { sha256 } = manifest.file
  const actual = await hashFile(model)
  if (actual !== sha256) {
    throw new DataError('MODEL_MANIFEST', `expected a model with sha256 ${sha256}, got ${actual}`, {
      where: model,
      fix,
    })
  }
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  } catch (cause) {
    throw new DataError('MODEL_MANIFEST', 'expected a model file, got none that can be read', {
      where: path,
      fix: 'give the path of the .onnx file that export wrote',
      cause,
    })
  }
  return hash.digest('hex')
}

/** A DICOM device UID that changes with the weights: 2.25 and a UUID made from the hash of what identifies them. */
export function deviceUid(identity: string): string {
  const digest = createHash('sha256').update(`mammo-retinanet device ${identity}`).digest().subarray(0, 16)
  digest[6] = (digest[6]! & 0x0f) | 0x80
  digest[8] = (digest[8]! & 0x3f) | 0x80
  return `2.25.${BigInt(`0x${digest.toString('hex')}`)}`
}

/** The manifest as metadata of the ONNX file: one entry per block, JSON except plain texts. */
export function manifestMetadata(description: ModelDescription): Record<string, string> {
  return Object.fromEntries(
    Object.entries(description).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
  )
}
