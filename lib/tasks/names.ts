// Names that options offer: light enough to load for every help page.
export { ADAPTERS, type AdapterName, BI_RADS, type BiRads, EXPORT_FORMATS, type ExportFormat } from '../data/types.js'

/** Those that are DICOM objects, one set per study. */
export const DICOM_OUTPUTS = ['cad-sr', 'tid1500', 'gsps', 'sc'] as const

/** What `predict` can write. */
export const OUTPUTS = ['json', 'jsonl', 'coco', 'csv', 'png', 'html', ...DICOM_OUTPUTS] as const
export type Output = (typeof OUTPUTS)[number]
