// The report of a run: what is handed to the plots, and the page as a browser shows it (the system's Chromium through playwright-core).
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'
import t from 'tap'
import { frocPlot, precisionRecallPlot } from '../../lib/report/evaluation-sections.js'
import { linePlotSpec } from '../../lib/report/plots.js'
import { runReportHtml } from '../../lib/report/run-report.js'
import { sampleReport } from './sample-report.js'

t.test('FROC and precision-recall plots say what the numbers say', async (t) => {
  const { metrics } = (await sampleReport()).evaluation!
  const froc = frocPlot(metrics)
  const { x, y } = froc.series[0]!
  t.same(
    x,
    x.toSorted((a, b) => a - b),
    'false positives ascend',
  )
  t.same(
    y,
    y.toSorted((a, b) => a - b),
    'so does sensitivity',
  )
  for (const { fppi, sensitivity } of metrics.froc[0]!.points) {
    const at = x.findLastIndex((value) => value <= fppi)
    t.ok(Math.abs(y[at]! - sensitivity.value!) < 1e-12, `step value at ${fppi}`)
  }
  const [band] = froc.bands!
  t.ok(band!.x.length > 20 && band!.low.every((low, i) => low <= band!.high[i]!))
  const pr = precisionRecallPlot(metrics)
  const area = pr.series[0]!.x.reduce(
    (sum, at, i) => (i === 0 ? 0 : sum + (at - pr.series[0]!.x[i - 1]!) * pr.series[0]!.y[i]!),
    0,
  )
  t.ok(Math.abs(area - metrics.voc.map.value!) < 1e-12, `the area under the curve is AP: ${area}`)
  for (const { recall, precision } of metrics.curves.precisionBand) {
    const at = pr.series[0]!.x.findIndex((value) => value >= recall)
    t.ok(Math.abs((at < 0 ? 0 : pr.series[0]!.y[at]!) - precision) < 1e-12, `precision at recall ${recall}`)
  }
  const { layer } = linePlotSpec(froc) as unknown as { layer: { mark: { type: string; interpolate?: string } }[] }
  t.same(
    layer.map(({ mark }) => mark.type),
    ['area', 'line'],
  )
  t.equal(layer[1]!.mark.interpolate, 'step-after')
})

t.test('without evaluation, history and pictures there is still a page', async (t) => {
  const report = await sampleReport()
  const text = await runReportHtml({
    ...report,
    ...{ evaluation: null, history: [], pictures: [], anchors: null, warnings: [], metrics: [] },
  })
  t.match(text, 'No epoch has ended yet.')
  t.notMatch(text, /undefined|NaN|\[object/)
})

/** The browser of the system; nothing is downloaded. */
function systemChromium(): string | undefined {
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  const found = folders.flatMap((folder) => names.map((name) => join(folder, name))).find((path) => existsSync(path))
  return process.env['MAMMO_CHROMIUM'] ?? found
}

const executablePath = systemChromium()
const skip = executablePath === undefined && 'no Chromium on the PATH; set MAMMO_CHROMIUM to a browser'

t.test('in a browser: no error, no request, no overflow, readable without seeing', { skip }, async (t) => {
  const file = join(t.testdir(), 'report.html')
  await writeFile(file, await runReportHtml(await sampleReport()))
  const url = pathToFileURL(file).href
  const browser = await chromium.launch({ executablePath: executablePath!, args: ['--no-sandbox'] })
  t.teardown(() => browser.close())
  for (const viewport of [
    { width: 1280, height: 900 },
    { width: 390, height: 844 },
  ]) {
    const page = await browser.newPage({ viewport })
    const problems: string[] = []
    const requests: string[] = []
    page.on('console', (message) => problems.push(`${message.type()}: ${message.text()}`))
    page.on('pageerror', (error) => problems.push(error.message))
    page.on('request', (request) => {
      if (!request.url().startsWith('data:')) requests.push(request.url())
    })
    await page.goto(url)
    for (const image of await page.locator('img').all()) await image.scrollIntoViewIfNeeded()
    t.same(problems, [], `${viewport.width} px: the console is empty`)
    t.same(requests, [url], `${viewport.width} px: one request, the page itself`)
    const width = await page.evaluate('document.documentElement.scrollWidth')
    t.ok((width as number) <= viewport.width, `${viewport.width} px: nothing is wider than the screen (${width})`)
    const images = await page.evaluate(
      '[...document.images].map(({ alt, complete, naturalWidth }) => ({ alt, shown: complete && naturalWidth > 0 }))',
    )
    for (const { alt, shown } of images as { alt: string; shown: boolean }[]) t.ok(alt.length > 0 && shown, alt)
    const charts = await page
      .locator('svg')
      .evaluateAll((all) => all.map((svg) => svg.getAttribute('aria-label') ?? ''))
    t.ok(charts.length >= 6 && charts.every((label) => label.length > 10), `${charts.length} charts with a name`)
    const tables = page.locator('table')
    t.equal(await page.locator('table:has(caption):has(thead th[scope=col])').count(), await tables.count(), 'tables')
    t.equal(await page.locator('main > section').count(), await page.locator('nav a').count())
    t.same(await page.locator('h1').count(), 1)
    // By keyboard: the first stop is the first entry of the contents; a picture opens at its own size and closes again.
    await page.keyboard.press('Tab')
    t.equal(await page.evaluate('document.activeElement.textContent'), 'Summary')
    const picture = page.locator('#picture-1 img')
    const before = (await picture.boundingBox())!.width
    await page.locator('#picture-1 .view a').focus()
    await page.keyboard.press('Enter')
    t.equal((await picture.boundingBox())!.width >= 600 && before < 600, true, 'reading zoom')
    await page.locator('#picture-1 .back').click()
    t.ok((await picture.boundingBox())!.width < 600)
    await page.close()
  }
})
