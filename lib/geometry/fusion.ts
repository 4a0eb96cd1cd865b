// Weighted boxes fusion: merges overlapping detections of several models or views into their score-weighted mean instead of dropping all
// but one. Method: Solovyev, Wang, Gabruseva, "Weighted boxes fusion", 2021, with the score rules of the ensemble-boxes package.
// Works in any units. Not suppression (nms.ts).
import { type Box, iou } from './boxes.js'

/** One detection of one source. */
export interface ScoredBox {
  box: Box
  score: number
  label: number
}

export interface FusionOptions {
  /** One positive weight per source; all 1 when left out. */
  weights?: readonly number[]
  /** A detection joins a cluster when its IoU with the cluster's mean is strictly above. */
  iou: number
  /** Detections below are left out. */
  minScore: number
  /**
   * Score of a cluster: `average` (mean of members, lowered when fewer than the sources agree), `max`, `modelAverage` (weighted mean, scaled
   * by the share of the sources present), `absentAware` (absent sources count as 0).
   */
  score: 'average' | 'max' | 'modelAverage' | 'absentAware'
  /** `average` only: several boxes of one source in a cluster may raise the score above the sources' mean. */
  overflow?: boolean
}

interface Member {
  box: Box
  label: number
  /** Score times the source's weight. */
  weighted: number
  weight: number
  source: number
}

interface Cluster {
  members: Member[]
  /** Weighted mean; of a single member its own box. */
  box: Box
}

/** Fuses the detections of several sources (`sources[i]` belongs to `weights[i]`); the result is sorted by descending score. */
export function fuseBoxes(sources: readonly (readonly ScoredBox[])[], options: FusionOptions): ScoredBox[] {
  const weights = options.weights ?? sources.map(() => 1)
  if (weights.length !== sources.length || weights.some((w) => !(w > 0)))
    throw new RangeError(`fuseBoxes expects ${sources.length} positive weights, got ${weights.join(', ')}`)
  const members = sources.flatMap((boxes, source) => {
    const weight = weights[source]!
    return boxes
      .filter(({ box, score }) => score >= options.minScore && box[2] > box[0] && box[3] > box[1])
      .map(({ box, score, label }): Member => ({ box, label, weighted: score * weight, weight, source }))
  })
  const labels = [...new Set(members.map((m) => m.label))]
  const fused = labels.flatMap((label) =>
    clusterOneLabel(
      members.filter((m) => m.label === label),
      options.iou,
    ).map((cluster) => ({ box: cluster.box, score: clusterScore(cluster.members, weights, options), label })),
  )
  return fused.sort((a, b) => b.score - a.score)
}

function clusterOneLabel(members: Member[], threshold: number): Cluster[] {
  const clusters: Cluster[] = []
  // Later entries first among equal scores, as the reference's reversed sort leaves them.
  for (const member of members.toReversed().sort((a, b) => b.weighted - a.weighted)) {
    let best: Cluster | undefined
    let bestIou = threshold
    for (const cluster of clusters) {
      const overlap = iou(cluster.box, member.box)
      if (overlap > bestIou) {
        best = cluster
        bestIou = overlap
      }
    }
    if (best === undefined) {
      clusters.push({ members: [member], box: member.box })
    } else {
      best.members.push(member)
      best.box = meanBox(best.members)
    }
  }
  return clusters
}

function meanBox(members: readonly Member[]): Box {
  const total = members.reduce((sum, m) => sum + m.weighted, 0)
  const mean = (k: 0 | 1 | 2 | 3) => members.reduce((sum, m) => sum + m.weighted * m.box[k], 0) / total
  return [mean(0), mean(1), mean(2), mean(3)]
}

function clusterScore(members: readonly Member[], weights: readonly number[], options: FusionOptions): number {
  const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0)
  const total = sum(weights)
  const scores = sum(members.map((m) => m.weighted))
  const memberWeights = sum(members.map((m) => m.weight))
  const present = new Set(members.map((m) => m.source))
  const presentWeight = sum([...present].map((source) => weights[source]!))
  switch (options.score) {
    case 'max':
      return Math.max(...members.map((m) => m.weighted)) / Math.max(...weights)
    case 'modelAverage':
      return (scores / memberWeights) * (presentWeight / total)
    case 'absentAware':
      return scores / (memberWeights + total - presentWeight)
    case 'average': {
      const counted = options.overflow ? members.length : Math.min(weights.length, members.length)
      return ((scores / members.length) * counted) / total
    }
  }
}
