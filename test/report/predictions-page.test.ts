// The page of a prediction run: numbers, names escaped, no script, long lists cut with the rest counted.
import t from 'tap'
import { predictionsPageHtml } from '../../lib/report/predictions-page.js'

const image = (name: string, scores: number[]) => ({
  ...{ name, scores, rows: 10, columns: 20, milliseconds: 1500, warnings: ['predict/no-breast'] },
})

t.test('says what was found and what was not', async (t) => {
  const page = await predictionsPageHtml({
    model: { name: 'model', version: '1.2.3', sha256: 'f'.repeat(64) },
    threshold: 0.25,
    settings: [['pipeline', 'tiles']],
    images: [image('<a>', [0.9, 0.3]), image('b', []), ...Array.from({ length: 600 }, (_, i) => image(`c${i}`, []))],
    rejected: [{ name: 'bad', code: 'ERR_MAMMO_DICOM', message: 'damaged & foreign' }],
    pictures: [],
    files: ['detections.csv'],
  })
  t.match(page, /&lt;a&gt;/)
  t.notMatch(page, /<a>|<script/)
  t.match(page, /<td>602<\/td>/)
  t.match(page, /damaged &amp; foreign/)
  t.match(page, /102 more images/)
  t.match(page, /href="detections.csv"/)
  t.match(page, /aria-label="Detections by score: 2 in all/)
  t.match(page, /1\.50/)
})

t.test('an empty run has a page too', async (t) => {
  const model = { name: 'm', version: '1.0.0', sha256: '' }
  const page = await predictionsPageHtml({
    model,
    threshold: 0.5,
    settings: [],
    images: [],
    rejected: [],
    pictures: [],
    files: [],
  })
  t.match(page, /<td>0<\/td>/)
  t.notMatch(page, /<svg/)
})
