// Writes small datasets in the layouts that adapters read, made from the format descriptions alone: no real image, contour or table row.
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { encodeGreyPng } from '../../../lib/data/raster.js'
import { buildImage } from '../dicom-builder.js'

export const OTHER = '1.2.840.10008.5.1.4.1.1.7'

/** Writes files below a folder. */
export async function writeTree(folder: string, files: Record<string, string | Uint8Array>): Promise<string> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), content)
  }
  return folder
}

/** A grey PNG of one value. */
export async function png(width: number, height: number, value = 9): Promise<Uint8Array> {
  return encodeGreyPng(new Uint8Array(width * height).fill(value), width, height)
}

/** An image like INbreast's: 16 bits stored, modality OT, no spacing, window, view or side. */
export function otherDicom(columns: number, rows: number, paint: (x: number, y: number) => number = () => 100): Buffer {
  const values = Uint16Array.from({ length: columns * rows }, (_, i) => paint(i % columns, Math.floor(i / columns)))
  return buildImage({ rows, columns, values, sopClass: OTHER, modality: 'OT' })
}

/** An 8-bit mask: 255 inside the box. */
export function maskDicom(columns: number, rows: number, [x1, y1, x2, y2]: readonly number[]): Buffer {
  const inside = (i: number) => {
    const [x, y] = [i % columns, Math.floor(i / columns)]
    return x >= x1! && x < x2! && y >= y1! && y < y2!
  }
  const values = Uint8Array.from({ length: columns * rows }, (_, i) => (inside(i) ? 255 : 0))
  return buildImage({ rows, columns, values, bitsAllocated: 8, sopClass: OTHER, modality: 'OT' })
}

/** A property list of contours as INbreast writes them. */
export function contourXml(
  rois: { name: string; points: [number, number][]; count?: number }[],
  total = rois.length,
): string {
  const roi = ({ name, points, count = points.length }: (typeof rois)[number], n: number) => `
      <dict>
        <key>Area</key><real>1.5</real>
        <key>IndexInImage</key><integer>${n}</integer>
        <key>Name</key><string>${name}</string>
        <key>NumberOfPoints</key><integer>${count}</integer>
        <key>Point_px</key><array>${points.map(([x, y]) => `<string>(${x}, ${y})</string>`).join('')}</array>
        <key>Type</key><integer>15</integer>
      </dict>`
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>Images</key><array><dict>
  <key>ImageIndex</key><integer>0</integer>
  <key>NumberOfROIs</key><integer>${total}</integer>
  <key>ROIs</key><array>${rois.map(roi).join('')}</array>
</dict></array></dict></plist>
`
}
