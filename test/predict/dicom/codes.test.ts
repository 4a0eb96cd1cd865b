// The table of codes: well formed, in one place, and equal to a published dictionary (pydicom's) where a Python with it is named.
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../../lib/package-root.js'
import { CODES, CONTEXT_GROUPS, type Code, modifierCodesOf, viewCodeOf } from '../../../lib/predict/dicom/codes.js'

const all: Code[] = [...Object.values(CODES), ...Object.values(CONTEXT_GROUPS).flat()]

t.test('every code fits its attributes', async (t) => {
  for (const { value, scheme, meaning } of all) {
    t.ok(value.length >= 1 && value.length <= 16 && scheme.length <= 16, value)
    t.ok(meaning.length >= 1 && meaning.length <= 64 && !/\u200b/.test(meaning), meaning)
  }
})

t.test('no other file holds a code', async (t) => {
  const folder = join(packageRoot(), 'lib', 'predict', 'dicom')
  for (const name of readdirSync(folder).filter((name) => name !== 'codes.ts')) {
    const text = readFileSync(join(folder, name), 'utf8')
    for (const { value } of all) {
      if (value.length > 2) t.notOk(text.includes(`'${value}'`), `${value} in ${name}`)
    }
  }
})

t.test('views and modifiers from old and new codes, and from ViewPosition', async (t) => {
  t.equal(viewCodeOf(['R-10242'], null)?.value, '399162004')
  t.equal(viewCodeOf(['399368009'], 'CC')?.value, '399368009')
  t.equal(viewCodeOf([], 'MLO')?.value, '399368009')
  t.equal(viewCodeOf(['X-1'], null), undefined)
  t.equal(viewCodeOf([], 'other'), undefined)
  t.equal(viewCodeOf([], null), undefined)
  t.strictSame(
    modifierCodesOf(['R-102D6', '399209000', 'X']).map(({ value }) => value),
    ['399163009', '399209000'],
  )
})

const PEER = `
import json, sys
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._cid_dict import cid_concepts
known = {}
groups = {}
for scheme, keywords in concepts.items():
    for keyword, codes in keywords.items():
        for value, (meaning, cids) in codes.items():
            known.setdefault(scheme + ' ' + value, []).append(meaning)
            for cid in cids: groups.setdefault(str(cid), []).append(scheme + ' ' + value)
json.dump({'known': known, 'groups': groups}, sys.stdout)
`

t.test('values, meanings and context groups equal a published dictionary', async (t) => {
  const python = process.env['MAMMO_PEER_PYTHON']
  const { status, stdout } =
    python === undefined
      ? { status: 1, stdout: '' }
      : spawnSync(python, ['-c', PEER], { encoding: 'utf8', maxBuffer: 2 ** 28 })
  if (status !== 0) return t.pass('skipped', { skip: 'no Python with pydicom; set MAMMO_PEER_PYTHON' })
  const { known, groups } = JSON.parse(stdout) as { known: Record<string, string[]>; groups: Record<string, string[]> }
  const tidy = (text: string) =>
    text
      .toLowerCase()
      .replaceAll(/\u200b|\(.*\)| structure|projection/g, '')
      .trim()
  // Concepts of other vocabularies are not in it.
  for (const { value, scheme, meaning } of all.filter(({ scheme }) => scheme !== 'UMLS')) {
    const meanings = known[`${scheme} ${value}`]
    t.ok(meanings !== undefined, `${scheme} ${value} is known`)
    t.ok(
      meanings?.some((other) => tidy(other).startsWith(tidy(meaning).split(' ')[0]!.slice(0, 5))),
      `${value}: ${meaning} | ${meanings?.join(' | ')}`,
    )
  }
  for (const [cid, codes] of Object.entries(CONTEXT_GROUPS)) {
    for (const { value, scheme } of codes) t.ok(groups[cid]?.includes(`${scheme} ${value}`), `${value} in CID ${cid}`)
  }
})
