// One HTML file from sections of text, tables, SVG plots and pictures: inline styles, no script, no network, readable on a phone,
// printed and by a screen reader. Knows nothing of runs or models.

/** Markup that is already safe to insert. */
export interface Html {
  readonly markup: string
}

export interface Section {
  title: string
  body: Html[]
}

export interface Picture {
  /** PNG or JPEG bytes. */
  bytes: Uint8Array
  type: 'image/png' | 'image/jpeg'
  caption: string
  /** What the picture shows, for readers who cannot see it. */
  alt: string
}

/** Builds markup; inserted values are escaped unless they are Html. */
export function html(strings: TemplateStringsArray, ...values: unknown[]): Html {
  const show = (value: unknown): string => {
    if (Array.isArray(value)) return value.map(show).join('')
    if (typeof value === 'object' && value !== null && 'markup' in value) return (value as Html).markup
    return escapeText(String(value ?? ''))
  }
  return { markup: strings.reduce((text, part, i) => text + show(values[i - 1]) + part) }
}

export function paragraph(text: string): Html {
  return html`<p>${text}</p>`
}

const NUMBER = /^[-+]?[\d.,]+( ?%| ?ms| ?s)?$|^undefined$/

/**
 * A table with a header row; the first cell of a row names it; columns that hold nothing but numbers are right-aligned, so that none of a list of
 * unlike values hides at the far edge of a phone. It scrolls by keyboard where it is wide.
 */
export function table(caption: string, head: string[], rows: (string | number)[][]): Html {
  const numbers = head.map((_, i) => rows.every((row) => row[i] === '' || NUMBER.test(String(row[i] ?? ''))))
  const cell = (value: string | number, column: number) =>
    numbers[column] ? html`<td class="n">${value}</td>` : html`<td>${value}</td>`
  const first = (value: string | number) => html`<th scope="row">${value}</th>`
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table${{ markup: head.length === 2 ? ' class="pairs"' : '' }}><caption>${caption}</caption>
<thead><tr>${head.map((h) => html`<th scope="col">${h}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((value, i) => (i === 0 && row.length > 1 ? first(value) : cell(value, i)))}</tr>\n`)}</tbody></table></div>`
}

/** An SVG made by this program. On a phone it keeps a size at which its letters can be read, and scrolls. */
export function figure(svg: string, caption: string): Html {
  return html`<figure><div class="scroll" tabindex="0" role="region" aria-label="${caption}">${{ markup: svg }}</div><figcaption>${caption}</figcaption></figure>`
}

/** Small parts side by side where there is room. */
export function columns(parts: readonly Html[]): Html {
  return html`<div class="columns">${parts}</div>`
}

/** Pictures in a grid. Each is a link to itself: the one that was followed to shows at its own size, until its second link leads back. No script. */
export function gallery(pictures: readonly Picture[], name = 'picture'): Html {
  return html`<div class="gallery">${pictures.map((p, i) => {
    const id = `${name}-${i + 1}`
    const source = `data:${p.type};base64,${Buffer.from(p.bytes).toString('base64')}`
    return html`<figure id="${id}"><div class="view"><a href="#${id}"><img src="${source}" alt="${p.alt}" loading="lazy"></a></div><figcaption>${p.caption} <a class="back" href="#${id}-end">back to small</a></figcaption><span id="${id}-end"></span></figure>`
  })}</div>`
}

/** Commands to copy. */
export function commands(lines: readonly string[]): Html {
  return html`<pre><code>${lines.join('\n')}</code></pre>`
}

const style = `
:root{color-scheme:light;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--ground:#fff;--tint:#f6f8fa}
*{box-sizing:border-box}body{margin:0 auto;max-width:64rem;padding:1.5rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground)}
h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;padding:0;list-style:none}a{color:#0550ae}a:focus-visible{outline:3px solid #0550ae;outline-offset:2px}
.note{background:#fff8c5;border:1px solid #d4a72c;border-radius:6px;padding:.6rem 1rem}.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:.6rem 0;font-size:.92rem}caption{text-align:left;color:var(--soft);padding-bottom:.3rem}
th,td{border:1px solid var(--line);padding:.25rem .6rem;text-align:left;vertical-align:top}thead th{background:var(--tint)}tbody th{font-weight:normal}.scroll:focus-visible{outline:3px solid #0550ae}td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
figure{margin:.6rem 0}figure svg,figure img{max-width:100%;height:auto}figcaption{color:var(--soft);font-size:.9rem}
.columns{display:flex;flex-wrap:wrap;gap:.4rem 2rem;align-items:flex-start}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}.gallery figure{margin:0;min-width:0}.gallery img{width:100%;border:1px solid var(--line);display:block}
.back{display:none}.gallery figure:target{grid-column:1/-1}.gallery figure:target .view{overflow:auto;max-height:90vh}.gallery figure:target img{width:auto;max-width:none}.gallery figure:target .back{display:inline}
pre{background:var(--tint);border:1px solid var(--line);border-radius:6px;padding:.8rem;overflow-x:auto}
@media print{nav{display:none}body{max-width:none;padding:0}figure,table{break-inside:avoid}}
@media (max-width:40rem){body{padding:.8rem}.pairs td{overflow-wrap:anywhere}figure .scroll>svg{max-width:none;min-width:36rem}}`

/** The whole document. `notice` stands in a box under the title. */
export function page(title: string, notice: string, sections: readonly Section[]): string {
  const id = (i: number) => `s${i + 1}`
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>${title}</title><style>${{ markup: style }}</style></head><body>
<header><h1>${title}</h1><p class="note" role="note">${notice}</p>
<nav aria-label="Contents"><ul>${sections.map((s, i) => html`<li><a href="#${id(i)}">${s.title}</a></li>`)}</ul></nav></header>
<main>${sections.map((s, i) => html`<section id="${id(i)}" aria-labelledby="h-${id(i)}"><h2 id="h-${id(i)}">${s.title}</h2>${s.body}</section>\n`)}</main>
<footer><p>Made by mammo-retinanet. Research software, not a medical device.</p></footer></body></html>
`.markup
}

function escapeText(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[c]!)
}
