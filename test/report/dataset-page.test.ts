// The page of a dataset: every section, escaped texts, and what is said where there is nothing to show.
import t from 'tap'
import { type DatasetPage, datasetPageHtml } from '../../lib/report/dataset-page.js'

const empty: DatasetPage = {
  title: 'Dataset x',
  notice: 'No errors.',
  facts: [['images', '0']],
  counts: [{ title: 'view', entries: [] }],
  sizes: [],
  histogram: null,
  coverage: null,
  rules: [],
  boxes: [],
  duplicates: null,
  dicom: null,
  leaks: [],
  leaksChecked: false,
  plan: [['prepared folder, expected', '0.0 MiB']],
}

t.test('nothing to show is said in words', async (t) => {
  const html = await datasetPageHtml(empty)
  for (const text of [
    'There is no lesion of the trained classes.',
    'No rule fired.',
    'No box is empty',
    'Pixels are compared once the dataset is prepared',
    'There is no split yet',
  ])
    t.ok(html.includes(text), text)
  t.notMatch(html, '>Anchors<')
  t.match(await datasetPageHtml({ ...empty, leaksChecked: true, duplicates: [] }), 'is in two parts')
  t.match(await datasetPageHtml(empty), 'No DICOM file was read')
  t.match(await datasetPageHtml({ ...empty, dicom: [] }), 'No header contradicts itself')
  const odd = { rule: 'dicom/side', message: 'header says L', where: 'a.dcm', fix: 'check the image' }
  t.match(await datasetPageHtml({ ...empty, dicom: [odd] }), 'header says L')
})

t.test('findings are listed, escaped and cut off with a count', async (t) => {
  const finding = { rule: 'box/tiny', message: '<b>2 px</b>', where: 'a#0', fix: 'look' }
  const html = await datasetPageHtml({
    ...empty,
    counts: [{ title: 'view', entries: [['MLO', 7]] }],
    sizes: [['width', 1, 2, 3, 4, 5]],
    histogram: { unit: 'mm', width: 5, counts: [0, 3, 1] },
    coverage: { about: 'IoU 0.5', sizes: [['0 to 32', 46, 38, '0.826', '0.6', '0.2']], levels: [], missed: ['a'] },
    rules: [{ ...finding, level: 'error', count: 60 }],
    boxes: Array.from({ length: 60 }, () => finding),
    duplicates: [['a', 'b']],
    leaks: [{ rule: 'leak/patient', level: 'error', key: 'p7', parts: ['train', 'test'], ids: ['a', 'c'] }],
    leaksChecked: true,
  })
  t.notMatch(html, '<b>2 px</b>')
  t.equal(html.split('&lt;b&gt;2 px&lt;/b&gt;').length - 1, 51, 'the example of the rule and 50 boxes')
  for (const text of ['and 10 more', '>MLO<', '>0.826<', 'a, b', 'train, test', '<svg role="img"', 'Bins of 5 mm.'])
    t.ok(html.includes(text), text)
  t.notMatch(html, /<script|http:\/\/(?!www\.w3\.org)/)
})
