import t from 'tap'
import { kerasCsv, parseRow, readClasses } from '../../../lib/data/formats/keras-csv.js'
import type { Problem } from '../../../lib/data/types.js'
import { png, writeTree } from './layouts.js'

const classes = new Map([['mass', 0]])
const rule = (line: string) => {
  const parsed = parseRow({ line: 4, cells: line.split(',') }, classes, 'a.csv:4')
  return 'problem' in parsed ? parsed.problem.rule : 'good'
}

t.test('the checks, in the order of the original', async (t) => {
  const cases: Record<string, string> = {
    'a.png,1,2,3': 'csv/columns',
    'a.png,1,2,,4,mass': 'csv/empty',
    ',1,2,3,4,mass': 'csv/empty',
    'a.png,1,b,3,4,mass': 'csv/number',
    'a.png,1,2,3,0x4,mass': 'csv/number',
    'a.png,1,2,1,3,g': 'csv/width',
    'a.png,1,2,2,2,g': 'csv/height',
    'a.png,1,2,3,4,g': 'csv/class',
    'path,x1,y1,x2,y2,class': 'csv/header',
    'a.png,0,0,1.5,2,mass': 'good',
    'a.png,,,,,': 'good',
    'a.png,1,2,3,4,mass,extra': 'good',
  }
  for (const [line, expected] of Object.entries(cases)) t.equal(rule(line), expected, line)
})

t.test('messages name line, cell and value', async (t) => {
  const parsed = parseRow({ line: 4, cells: 'a.png,1,b,3,4,mass'.split(',') }, classes, 'a.csv:4')
  t.match(parsed, { problem: { message: 'cell y1 must be a number, is "b"', where: 'a.csv:4' } })
  t.match(parseRow({ line: 4, cells: 'a.png,1,2,3,4,g'.split(',') }, classes, ''), {
    problem: { message: /known: mass/ },
  })
})

t.test('a file: negatives, repeated paths, BOM, CRLF, quotes, all faults at once', async (t) => {
  const folder = await writeTree(t.testdir(), {
    'annotations.csv':
      '\uFEFF"a.png",1,2,30.5,40,Mass\r\nb.png,,,,,\r\na.png,5,5,130,20,Mass\r\na.png,,,,,\r\na.png,9,9,3,4,Mass\r\nc.png,1,2,3,4,Mass\r\n\r\n',
    'classes.csv': 'Mass,0\n',
    'a.png': await png(120, 90),
    'b.png': await png(120, 90),
  })
  t.equal(await kerasCsv.detect(folder), true)
  const { records, problems } = await kerasCsv.read(folder, { patientPattern: '(?<patient>[ab])' })
  t.match(records, [
    {
      id: 'keras-csv/a',
      lesions: [
        { class: 'mass', box: [1, 2, 30.5, 40] },
        { box: [5, 5, 120, 20], clipped: true },
      ],
    },
    { id: 'keras-csv/b', lesions: [] },
  ])
  t.same(
    problems.map(({ rule: name, where }) => [name, where]),
    [
      ['box/clipped', 'annotations.csv:3'],
      ['csv/width', 'annotations.csv:5'],
      ['manifest/missing-file', 'annotations.csv:6'],
    ],
  )
})

t.test('broken quoting is an error with its line', async (t) => {
  const folder = await writeTree(t.testdir(), {
    'annotations.csv': 'a.png,,,,,\nb.png,"1,2,3,4,Mass\n',
    'classes.csv': 'Mass,0\n',
  })
  await t.rejects(kerasCsv.read(folder), { code: 'ERR_MAMMO_ANNOTATION', details: { rule: 'csv/quotes' } })
})

t.test('class files', async (t) => {
  const check = (text: string) => {
    const problems: Problem[] = []
    readClasses(
      text.split('\n').map((line, n) => ({ line: n + 1, cells: line.split(',') })),
      'c.csv',
      problems,
    )
    return problems.map(({ message }) => message)
  }
  t.same(check('a,0\nb,1'), [])
  t.match(check('a,0\na,1'), [/occurs twice/])
  t.match(check('a,0\nb,0'), [/id 0 also in line 1/])
  t.match(check('a,0\nb,2'), [/id 1 is missing/])
  t.match(check('a,-1'), [/integer from 0/])
  t.match(check('a'), [/2 columns, has 1/])
})
