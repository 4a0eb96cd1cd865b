// Text in the character sets of DICOM: the examples of PS3.5 annexes H, I, J and K as bytes, and what must be refused.
import t from 'tap'
import { decodeText } from '../../../lib/data/dicom/charset.js'

const bytes = (text: string) =>
  Uint8Array.from(
    Buffer.from(
      text.replaceAll(/\\x(..)/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
      'latin1',
    ),
  )
const K = '\\x1b$B'
const A = '\\x1b(B'

const EXAMPLES: [name: string, sets: string[], raw: string, text: string][] = [
  ['ASCII', [''], 'Doe^Jane', 'Doe^Jane'],
  ['nothing named', [], 'Doe^Jane', 'Doe^Jane'],
  ['Latin 1', ['ISO_IR 100'], 'M\\xfcller^\\xc4nne', 'Müller^Änne'],
  ['Latin 2', ['ISO_IR 101'], 'Wa\\xb3\\xeasa', 'Wałęsa'],
  ['Latin 5', ['ISO_IR 148'], 'Çavu\\xfeo\\xf0lu'.replace('Ç', '\\xc7'), 'Çavuşoğlu'],
  ['Latin 9', ['ISO_IR 203'], 'Ž\\xa4'.replace('Ž', '\\xb4'), 'Ž€'],
  ['Cyrillic', ['ISO_IR 144'], '\\xbb\\xee\\xda\\xe1\\xd5\\xdc\\xd1\\xe3\\xe0\\xd3', 'Люкceмбург'.replace('ce', 'се')],
  ['Greek', ['ISO_IR 126'], '\\xc4\\xe9\\xef\\xed\\xf5\\xf3\\xe9\\xef\\xf2', 'Διονυσιος'],
  ['Arabic', ['ISO_IR 127'], '\\xe2\\xc8\\xc7\\xe6\\xea^\\xe4\\xe6\\xd2\\xc7\\xd1', 'قباني^لنزار'],
  ['Hebrew', ['ISO_IR 138'], '\\xf9\\xf8\\xe5\\xef^\\xe3\\xe1\\xe5\\xf8\\xe4', 'שרון^דבורה'],
  ['Thai', ['ISO_IR 166'], '\\xca\\xc1\\xaa\\xd2\\xc2', 'สมชาย'],
  ['UTF-8', ['ISO_IR 192'], 'Wang^XiaoDong=\\xe7\\x8e\\x8b^\\xe5\\xb0\\x8f\\xe6\\x9d\\xb1', 'Wang^XiaoDong=王^小東'],
  ['GB 18030', ['GB18030'], 'Wang^XiaoDong=\\xcd\\xf5^\\xd0\\xa1\\xb6\\xab', 'Wang^XiaoDong=王^小东'],
  [
    'Japanese by escapes',
    ['', 'ISO 2022 IR 87'],
    `Yamada^Tarou=${K};3ED${A}^${K}B@O:${A}=${K}$d$^$@${A}^${K}$?$m$&${A}`,
    'Yamada^Tarou=山田^太郎=やまだ^たろう',
  ],
  [
    'Japanese with half-width katakana',
    ['ISO 2022 IR 13', 'ISO 2022 IR 87'],
    `\\xd4\\xcf\\xc0\\xde^\\xc0\\xdb\\xb3=${K};3ED\\x1b(J^${K}B@O:\\x1b(J`,
    'ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎',
  ],
  [
    'Korean by escapes',
    ['', 'ISO 2022 IR 149'],
    'Hong^Gildong=\\x1b$)C\\xfb\\xf3^\\x1b$)C\\xd1\\xce\\xd4\\xd7=\\x1b$)C\\xc8\\xab^\\x1b$)C\\xb1\\xe6\\xb5\\xbf',
    'Hong^Gildong=洪^吉洞=홍^길동',
  ],
  [
    'Chinese by escapes',
    ['', 'ISO 2022 IR 58'],
    'Zhang^XiaoDong=\\x1b$)A\\xd5\\xc5^\\x1b$)A\\xd0\\xa1\\xb6\\xab=',
    'Zhang^XiaoDong=张^小东=',
  ],
  ['Greek beside Latin 1', ['ISO 2022 IR 100', 'ISO 2022 IR 126'], '\\xc4^\\x1b-F\\xc4', 'Ä^Δ'],
  ['a delimiter brings the first set back', ['ISO 2022 IR 100', 'ISO 2022 IR 126'], '\\x1b-F\\xc4^\\xc4', 'Δ^Ä'],
]

t.test('text in every set', async (t) => {
  for (const [name, sets, raw, text] of EXAMPLES) t.equal(decodeText(bytes(raw), sets, 'x'), text, name)
})

t.test('what is not of its set is refused, and never quoted', async (t) => {
  for (const [sets, raw] of [
    [[''], 'M\\xfcller'],
    [['ISO_IR 192'], 'M\\xfcller'],
    [['ISO_IR 999'], 'Muller'],
    [['ISO 2022 IR 999', 'ISO 2022 IR 87'], 'Muller'],
    [['', 'ISO 2022 IR 87'], 'Muller\\x1bXX'],
    [['', 'ISO 2022 IR 149'], 'Muller\\xfb'],
  ] as const) {
    const refused = { code: 'ERR_MAMMO_DICOM', details: { rule: 'dicom/charset' }, message: /^(?!.*(ller|M))/ }
    t.throws(() => decodeText(bytes(raw), sets, 'x'), refused, sets.join())
  }
})
