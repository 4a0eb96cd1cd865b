// The unpickler: what data become, and that nothing but data gets through. The hostile pickles are those that Python's own `pickle`
// would run: written out operation by operation, so that no Python is needed to have them.
import t, { type Test } from 'tap'
import { type Callable, PickleError, type PickleRules, type PickleValue, readPickle } from '../../lib/weights/pickle.js'

const twice: Callable = { opaque: 'function', call: ([value]) => Number(value) * 2 }
const rules: PickleRules = {
  global: (module, name) => (`${module}.${name}` === 'safe.twice' ? twice : undefined),
  persistent: (id) => ['kept', id],
}
const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part))))
const read = (...parts: (string | number[])[]) => readPickle(bytes(...parts), 0, rules).value
const refused = (
  t: Pick<Test, 'fail' | 'ok' | 'match' | 'equal'>,
  parts: (string | number[])[],
  message: RegExp,
  global?: string,
) => {
  try {
    read(...parts)
    t.fail(`${message}: accepted`)
  } catch (error) {
    t.ok(error instanceof PickleError, `${message}: a PickleError`)
    t.match((error as Error).message, message)
    if (global !== undefined) t.equal((error as PickleError).global, global)
  }
}

t.test('data of every protocol', (t) => {
  t.equal(read('I-12\n.'), -12)
  t.equal(read('I01\n.'), true)
  t.equal(read('L123456789012345678901234567890L\n.'), 123456789012345678901234567890n)
  t.equal(read('F1.5\n.'), 1.5)
  t.equal(read("S'text'\n."), 'text')
  t.equal(read('\x80\x02', 'J', [0xfe, 0xff, 0xff, 0xff], '.'), -2)
  t.equal(read('\x80\x02', 'M', [0xe9, 3], '.'), 1001)
  t.equal(read('\x80\x02\x8a', [2, 0x00, 0xff], '.'), -256, 'LONG1 has a sign')
  t.equal(read('\x80\x02\x8a', [0], '.'), 0)
  t.equal(read('G', [0x3f, 0xf8, 0, 0, 0, 0, 0, 0], '.'), 1.5)
  t.equal(read('\x80\x04\x8c', [2], 'hi', '\x94', '.'), 'hi')
  t.strictSame(read('(K', [1], 'K', [2], 't.'), [1, 2])
  t.strictSame(read(']q', [0], '(K', [1], 'N\x88e.'), [1, null, true])
  t.strictSame(
    read('}(K', [1], "S'a'\nK", [2], "S'b'\nu."),
    new Map<PickleValue, PickleValue>([
      [1, 'a'],
      [2, 'b'],
    ]),
  )
  t.strictSame(read('(dp0\n', "S'k'\n]s."), new Map([['k', []]]))
  const self = read(']q', [7], 'h', [7], 'a.') as PickleValue[]
  t.equal(self[0], self, 'a list within itself')
  t.equal(read('csafe\ntwice\n(K', [21], 'tR.'), 42)
  t.equal(read("S'safe'\nS'twice'\n\x93K", [21], '\x85R.'), 42)
  t.strictSame(read('Pname\n.'), ['kept', 'name'])
  t.strictSame(read('K', [9], 'Q.'), ['kept', 9])
  const { value, end } = readPickle(bytes('junk', 'K', [5], '.', 'more'), 4, rules)
  t.strictSame([value, end], [5, 7], 'pickles can follow each other')
  t.end()
})

t.test('names are refused and told', (t) => {
  refused(t, ["cos\nsystem\n(S'echo hello'\ntR."], /it asks for os\.system$/, 'os.system')
  refused(t, ["cposix\nsystem\n(S'echo hello'\ntR."], /posix\.system/, 'posix.system')
  refused(t, ["c__builtin__\neval\n(S'1'\ntR."], /__builtin__\.eval/, '__builtin__.eval')
  refused(t, ['\x80\x04\x8c', [8], 'builtins', '\x8c', [4], 'exec', '\x93.'], /builtins\.exec/, 'builtins.exec')
  refused(t, ["cbuiltins\ngetattr\n(csafe\ntwice\nS'call'\ntR."], /builtins\.getattr/, 'builtins.getattr')
  refused(t, ["(S'echo hello'\nios\nsystem\n."], /os\.system/, 'os.system')
  refused(t, ['\x80\x04\x8c', [4], 'safe', '\x8c', [17], 'twice.__globals__', '\x93.'], /safe\.twice\.__globals__/)
  refused(t, ['ctorch._utils\n__class__\n.'], /torch\._utils\.__class__/)
  // Names that every JavaScript object has.
  refused(t, ['csafe\nconstructor\n.'], /safe\.constructor/)
  refused(t, ['c__proto__\ntoString\n.'], /__proto__\.toString/)
  t.end()
})

t.test('nothing is called or changed but what was allowed', (t) => {
  refused(t, ['K', [1], ')R.'], /no function is called/)
  refused(t, ["S'alert'\n)R."], /no function is called/)
  refused(t, ['})R.'], /no function is called/, undefined)
  refused(t, ['csafe\ntwice\nK', [1], 'R.'], /expected a list/)
  refused(t, ['csafe\ntwice\n}b.'], /a state is set/)
  refused(t, ['\x82', [1], '.'], /operation 0x82/)
  refused(t, ['(csafe\ntwice\no.'], /operation 0x6f/)
  refused(t, ['\x8f.'], /operation 0x8f/)
  refused(t, ['\x97.'], /operation 0x97/)
  refused(t, ['csafe\ntwice\n(K', [1], 't}\x92.'], /operation 0x92/)
  // A key called __proto__ is a key.
  const map = read("}S'__proto__'\n}s.") as Map<string, PickleValue>
  t.ok(map.has('__proto__'))
  t.equal(({} as Record<string, unknown>)['x'], undefined)
  t.end()
})

t.test('damaged pickles', (t) => {
  refused(t, [''], /ends within/)
  refused(t, ['K'], /ends within/)
  refused(t, ['X', [255, 255, 255, 255], 'a.'], /ends within/)
  refused(t, ['\x8d', [255, 255, 255, 255, 255, 255, 255, 127], 'a.'], /ends within/)
  refused(t, ['\x8b', [255, 255, 255, 127], '.'], /integer of 2147483647 bytes/)
  refused(t, ['cos'], /ends within a line/)
  refused(t, ['.'], /nothing to take/)
  refused(t, ['0.'], /nothing to take/)
  refused(t, ['(.'], /nothing to take/)
  refused(t, ['t.'], /no mark/)
  refused(t, ['h', [3], '.'], /nothing was stored under 3/)
  refused(t, ['}(K', [1], 'u.'], /a key without a value/)
  refused(t, ['K', [1], 'K', [2], 'a.'], /expected a list/)
  refused(t, ['\x80\x06.'], /protocol 6/)
  refused(t, [`I${'9'.repeat(200)}\n.`], /no integer/)
  refused(t, ['S"open\n.'], /without quotes/)
  t.end()
})

t.test('a small pickle stays small: shared lists are not copied', (t) => {
  const layers = Array.from({ length: 60 }, (_, i) => [`](h`, [i], 'h', [i], 'eq', [i + 1]]).flat()
  const value = read(']q', [0], ...(layers as (string | number[])[]), '.') as PickleValue[]
  t.equal(value.length, 2)
  t.equal(value[0], value[1])
  t.end()
})
