// The journal of a run: entries survive, a torn line does not hurt, another model or other settings are refused.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type JournalEntry, openJournal, readJournal } from '../../lib/predict/journal.js'

const run = { model: 'm', settings: '{}' }
const entry = (name: string, code = 'ERR_MAMMO_IMAGE'): JournalEntry => ({
  ...{ name, bytes: 1, mtimeMs: 2, study: null, file: null },
  result: { code, message: name.repeat(50) },
})

t.test('entries in order, the last of a name counts, torn lines are cut', async (t) => {
  const path = join(t.testdir(), 'sub', 'journal.jsonl')
  t.equal(await readJournal(path), undefined)
  const first = await openJournal(path, { ...run, resume: true })
  await Promise.all(['a', 'b', 'c'].map((name) => first.append(entry(name))))
  await first.append(entry('a', 'ERR_MAMMO_DICOM'))
  await first.close()
  const whole = readFileSync(path, 'utf8')
  for (const cut of [1, 30, 200]) {
    appendFileSync(path, whole.slice(0, cut).replaceAll('\n', ''))
    const again = await openJournal(path, { ...run, resume: true })
    t.strictSame([...again.entries.keys()].sort(), ['a', 'b', 'c'])
    t.match(again.entries.get('a')!.result, { code: 'ERR_MAMMO_DICOM' })
    await again.append(entry('d'))
    await again.close()
    t.ok((await readJournal(path))!.entries.has('d'), 'what follows a torn line is whole')
    writeFileSync(path, whole)
  }
  const fresh = await openJournal(path, { ...run, resume: false })
  t.equal(fresh.entries.size, 0)
  await fresh.close()
  t.equal((await readJournal(path))!.entries.size, 0)
})

t.test('what is another run, or no journal, is refused', async (t) => {
  const path = join(t.testdir(), 'journal.jsonl')
  await (await openJournal(path, { ...run, resume: false })).close()
  await t.rejects(openJournal(path, { ...run, model: 'n', resume: true }), { message: /the model changed/ })
  await t.rejects(openJournal(path, { ...run, settings: '{"a":1}', resume: true }), { code: 'ERR_MAMMO_ARGUMENT' })
  for (const text of ['[]\n', 'x\n', `${readFileSync(path, 'utf8')}{"name":1}\n`, `${readFileSync(path, 'utf8')}x\n`]) {
    writeFileSync(path, text)
    await t.rejects(readJournal(path), { code: 'ERR_MAMMO_MANIFEST' }, text)
  }
})
