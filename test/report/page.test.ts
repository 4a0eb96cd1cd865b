// Report pages: escaped text, no script, no address outside the file.
import t from 'tap'
import { commands, figure, gallery, html, page, paragraph, table } from '../../lib/report/page.js'

t.test('text is escaped everywhere', async (t) => {
  t.equal(html`<p>${'<b>&"'}</p>`.markup, '<p>&lt;b&gt;&amp;&quot;</p>')
  const text = page('<x>', '<y>', [
    { title: '<z>', body: [paragraph('<p>'), table('<c>', ['<h>'], [['<d>', 3]]), commands(['a < b'])] },
  ])
  for (const raw of ['<x>', '<y>', '<z>', '<c>', '<h>', '<d>', 'a < b']) t.notOk(text.includes(raw), raw)
})

t.test('a page is one file', async (t) => {
  const picture = { bytes: new Uint8Array([1, 2, 3]), type: 'image/png' as const, caption: 'one', alt: 'one' }
  const text = page('Title', 'notice', [
    { title: 'Pictures', body: [gallery([picture]), figure('<svg></svg>', 'plot')] },
  ])
  t.match(text, 'src="data:image/png;base64,AQID" alt="one"')
  t.match(text, "default-src 'none'")
  t.notMatch(text, /<script|href="http|src="http/)
  t.match(text, /<a href="#s1">Pictures<\/a>/)
  t.match(text, /<section id="s1" aria-labelledby="h-s1">/)
})
