// Area under the alternative FROC curve: how often a lesion's score is higher than every false positive of an image (ties count half, and so does a
// lesion that nothing found against an image without false positives). Needs no limit of false positives per image, as FROC's numbers do.
// Method: Chakraborty and Winter, Radiology 174, 1990, with the rating of an image that of its highest false positive; empirical area.
import type { FalsePositiveImages, FrocEvents } from './froc.js'

/**
 * Prepares `weights of the images -> area`: over all pairs of a lesion and an image, mass-free or any (the latter is also called AFROC1). NaN without
 * (weighted) lesions or images of that kind.
 */
export function weightedAfroc(events: FrocEvents, where: FalsePositiveImages): (weights: Float64Array) => number {
  const highest = new Float64Array(events.images).fill(Number.NEGATIVE_INFINITY)
  events.falseScore.forEach((score, i) => {
    const image = events.falseImage[i]!
    if (score > highest[image]!) highest[image] = score
  })
  // Lesions and images in one list, ascending by score.
  const marks = [
    ...Array.from(events.lesionScore, (score, i) => ({ score, image: events.lesionImage[i]!, lesion: true })),
    ...Array.from(highest, (score, image) => ({ score, image, lesion: false })).filter(
      ({ image }) => where === 'all' || events.massFree[image] === 1,
    ),
  ].sort((a, b) => (a.score < b.score ? -1 : a.score > b.score ? 1 : 0))
  return (weights) => {
    let [images, lesions, pairs] = [0, 0, 0]
    for (let next = 0; next < marks.length; ) {
      const { score } = marks[next]!
      let [tiedImages, tiedLesions] = [0, 0]
      for (; next < marks.length && marks[next]!.score === score; next++) {
        const { image, lesion } = marks[next]!
        if (lesion) tiedLesions += weights[image]!
        else tiedImages += weights[image]!
      }
      pairs += tiedLesions * (images + tiedImages / 2)
      images += tiedImages
      lesions += tiedLesions
    }
    return pairs / (lesions * images)
  }
}
