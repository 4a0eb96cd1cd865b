// Names that options offer: light enough to load for every help page.
export { ADAPTERS, type AdapterName, EXPORT_FORMATS, type ExportFormat } from '../data/types.js'

/** What `predict` can write. */
export const OUTPUTS = ['json', 'jsonl', 'coco', 'csv', 'png'] as const
export type Output = (typeof OUTPUTS)[number]
