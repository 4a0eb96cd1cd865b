// UIDs of result objects: the same images, model and settings give the same UID, so that a repeat is recognised and nothing is stored
// twice; any change gives another one. A UUID of version 5 (RFC 9562) as decimal below 2.25 (DICOM PS3.5 annex B.2).
import { createHash } from 'node:crypto'

export interface ResultIdentity {
  /** SOP instance UIDs of the analysed images, in any order. */
  instances: readonly string[]
  modelSha256: string
  threshold: number
  pipelineHash: string
}

/** Name space of this software's results; a constant for ever. */
const NAMESPACE = Buffer.from('6e1c1b6ad8f04d0c9a5b3a7f2f4c8e91', 'hex')

/** `objectType` tells the objects of one result apart: `cad-sr`, `gsps series`, ... */
export function resultUid(identity: ResultIdentity, objectType: string): string {
  const { instances, modelSha256, threshold, pipelineHash } = identity
  return uidOf(JSON.stringify([[...instances].sort(), modelSha256, threshold, pipelineHash, objectType]))
}

/** Version 5 of a name in NAMESPACE. */
export function uidOf(name: string): string {
  const digest = createHash('sha1').update(NAMESPACE).update(name).digest().subarray(0, 16)
  digest[6] = (digest[6]! & 0x0f) | 0x50
  digest[8] = (digest[8]! & 0x3f) | 0x80
  return `2.25.${BigInt(`0x${digest.toString('hex')}`)}`
}
