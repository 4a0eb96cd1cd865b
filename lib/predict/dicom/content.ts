// The content tree of a structured report as plain data, and its form as DICOM JSON. Knows value types and relationships, not what a
// report says. Encoding: DICOM PS3.3 C.17.3, C.18. Pixel coordinates are column, row from 0\0, the outer corner of the first pixel.
import { type DicomElement, type DicomJson, firstNumber, firstText, itemsIn } from '../../data/dicom/dataset.js'
import type { Code } from './codes.js'

export type Relation =
  | 'CONTAINS'
  | 'HAS OBS CONTEXT'
  | 'HAS ACQ CONTEXT'
  | 'HAS CONCEPT MOD'
  | 'HAS PROPERTIES'
  | 'INFERRED FROM'
  | 'SELECTED FROM'

export type ItemValue =
  | { type: 'CONTAINER'; template?: string }
  | { type: 'CODE'; code: Code }
  | { type: 'TEXT' | 'DATE' | 'TIME' | 'UIDREF'; text: string }
  | { type: 'NUM'; number: number; unit: Code }
  | { type: 'IMAGE'; sopClass: string; instance: string; frame: number | null }
  | { type: 'SCOORD'; graphic: 'POINT' | 'POLYLINE'; points: readonly number[] }
  /** By reference: the path of an item of the same tree, from 1 for the root. */
  | { type: 'REFERENCE'; path: readonly number[] }

export interface Item {
  relation: Relation | null
  concept: Code | null
  value: ItemValue
  children: readonly Item[]
}

/** The attribute of a text-like value. */
const TEXT_TAGS = {
  TEXT: ['0040A160', 'UT'],
  DATE: ['0040A121', 'DA'],
  TIME: ['0040A122', 'TM'],
  UIDREF: ['0040A124', 'UI'],
} as const

export function item(
  relation: Relation | null,
  concept: Code | null,
  value: ItemValue,
  children: readonly (Item | undefined)[] = [],
): Item {
  return { relation, concept, value, children: children.filter((child) => child !== undefined) }
}

/** A code as sequence item. */
export function codeItem({ value, scheme, meaning }: Code): DicomJson {
  return {
    '00080100': { vr: 'SH', Value: [value] },
    '00080102': { vr: 'SH', Value: [scheme] },
    '00080104': { vr: 'LO', Value: [meaning] },
  }
}

export function sequence(items: readonly DicomJson[]): DicomElement {
  return { vr: 'SQ', ...(items.length === 0 ? {} : { Value: items }) }
}

/** The attributes of an item; those of the root belong into the data set itself. */
export function toDicom({ relation, concept, value, children }: Item): DicomJson {
  const relationship: DicomJson = relation === null ? {} : { '0040A010': { vr: 'CS', Value: [relation] } }
  if (value.type === 'REFERENCE') return { ...relationship, '0040DB73': { vr: 'UL', Value: [...value.path] } }
  return {
    ...relationship,
    '0040A040': { vr: 'CS', Value: [value.type] },
    ...(concept === null ? {} : { '0040A043': sequence([codeItem(concept)]) }),
    ...valueElements(value),
    ...(children.length === 0 ? {} : { '0040A730': sequence(children.map(toDicom)) }),
  }
}

function valueElements(value: Exclude<ItemValue, { type: 'REFERENCE' }>): DicomJson {
  switch (value.type) {
    case 'CONTAINER':
      return {
        '0040A050': { vr: 'CS', Value: ['SEPARATE'] },
        ...(value.template === undefined
          ? {}
          : {
              '0040A504': sequence([
                { '00080105': { vr: 'CS', Value: ['DCMR'] }, '0040DB00': { vr: 'CS', Value: [value.template] } },
              ]),
            }),
      }
    case 'CODE':
      return { '0040A168': sequence([codeItem(value.code)]) }
    case 'NUM':
      return {
        '0040A300': sequence([
          {
            '004008EA': sequence([codeItem(value.unit)]),
            '0040A30A': { vr: 'DS', Value: [value.number] },
            '0040A161': { vr: 'FD', Value: [value.number] },
          },
        ]),
      }
    case 'IMAGE':
      return { '00081199': sequence([referenceItem(value)]) }
    case 'SCOORD':
      return { '00700022': { vr: 'FL', Value: [...value.points] }, '00700023': { vr: 'CS', Value: [value.graphic] } }
    default: {
      const [tag, vr] = TEXT_TAGS[value.type]
      return { [tag]: { vr, Value: [value.text] } }
    }
  }
}

/** Reference to an image, with its 1-based frame number where it has several. */
export function referenceItem(image: { sopClass: string; instance: string; frame: number | null }): DicomJson {
  return {
    '00081150': { vr: 'UI', Value: [image.sopClass] },
    '00081155': { vr: 'UI', Value: [image.instance] },
    ...(image.frame === null ? {} : { '00081160': { vr: 'IS', Value: [image.frame + 1] } }),
  }
}

/** The tree of a data set. What cannot be an item of ours is null, for the checker to name. */
export function fromDicom(dataset: DicomJson): Item | null {
  const value = readValue(dataset)
  if (value === null) return null
  const children = itemsIn(dataset, '0040A730').map(fromDicom)
  if (children.includes(null)) return null
  const relation = firstText(dataset, '0040A010')
  return {
    relation: relation === '' ? null : (relation as Relation),
    concept: codeIn(dataset, '0040A043'),
    value,
    children: children as Item[],
  }
}

/** The code of a sequence's first item. */
export function codeIn(dataset: DicomJson, tag: string): Code | null {
  const first = itemsIn(dataset, tag)[0]
  if (first === undefined) return null
  return {
    value: firstText(first, '00080100'),
    scheme: firstText(first, '00080102'),
    meaning: firstText(first, '00080104'),
  }
}

function readValue(dataset: DicomJson): ItemValue | null {
  const path = dataset['0040DB73']?.Value
  if (path !== undefined) return { type: 'REFERENCE', path: path as number[] }
  const type = firstText(dataset, '0040A040')
  switch (type) {
    case 'CONTAINER': {
      const template = itemsIn(dataset, '0040A504')[0]
      return { type, ...(template === undefined ? {} : { template: firstText(template, '0040DB00') }) }
    }
    case 'CODE': {
      const code = codeIn(dataset, '0040A168')
      return code === null ? null : { type, code }
    }
    case 'NUM': {
      const measured = itemsIn(dataset, '0040A300')[0]
      const number = measured === undefined ? undefined : firstNumber(measured, '0040A161')
      const unit = measured === undefined ? null : codeIn(measured, '004008EA')
      return number === undefined || unit === null ? null : { type, number, unit }
    }
    case 'IMAGE': {
      const [image] = itemsIn(dataset, '00081199')
      if (image === undefined) return null
      const frame = firstNumber(image, '00081160')
      return {
        type,
        sopClass: firstText(image, '00081150'),
        instance: firstText(image, '00081155'),
        frame: frame === undefined ? null : frame - 1,
      }
    }
    case 'SCOORD': {
      const graphic = firstText(dataset, '00700023')
      if (graphic !== 'POINT' && graphic !== 'POLYLINE') return null
      return { type, graphic, points: (dataset['00700022']?.Value ?? []) as number[] }
    }
    case 'TEXT':
    case 'DATE':
    case 'TIME':
    case 'UIDREF':
      return { type, text: firstText(dataset, TEXT_TAGS[type][0]) }
    default:
      return null
  }
}
