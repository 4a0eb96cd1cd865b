// PyTorch files: the stored ones (made by make-torch-files.py), one that a Python with torch makes here when there is one, hostile ones
// and damaged ones. A damaged or hostile file is always an error of ours, never a crash and never a wrong number.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { packageRoot } from '../../lib/package-root.js'
import { openWeightFile, type WeightFile } from '../../lib/weights/weight-file.js'
import { type ZipPart, zipBytes } from './zip-kit.js'

const stored = (name: string) => join(packageRoot(), 'test', 'weights', 'files', name)
const base = Array.from({ length: 24 }, (_, i) => i / 8)
const at = (i: number, j: number, k: number) => base[(i * 3 + j) * 4 + k]!

async function checkState(t: Test, file: WeightFile) {
  const values = async (name: string) => {
    const { shape, data } = await file.read(name)
    return [shape, [...data]]
  }
  t.equal(file.format, 'torch')
  t.strictSame(await values('whole'), [[2, 3, 4], base])
  t.strictSame(await values('part'), [[3, 4], base.slice(12)])
  const turned = [0, 1, 2, 3].flatMap((k) => [0, 1].flatMap((i) => [0, 1, 2].map((j) => at(i, j, k))))
  t.strictSame(await values('turned'), [[4, 2, 3], turned])
  t.strictSame(await values('column'), [[2], [at(0, 1, 2), at(1, 1, 2)]])
  t.strictSame(await values('trained'), [[3], [1.5, -2.5, 3e-8].map(Math.fround)])
  t.strictSame(await values('double'), [
    [1, 2],
    [Math.fround(1 / 3), -0],
  ])
  t.strictSame(await values('half'), [[4], [0.0999755859375, -65504, 2 ** -24, Infinity]])
  const brain = await file.read('brain')
  t.equal(brain.data[0], 0.10009765625)
  t.ok(Math.abs(brain.data[1]! / -3e38 - 1) < 2 ** -8, 'a bfloat16 has 8 bits')
  t.ok(brain.data[2]! > 0 && brain.data[2]! < 2e-40)
  t.strictSame(file.tensors.get('counter'), { type: 'I64', shape: [] })
  t.strictSame(await values('counter'), [[], [7]])
  t.strictSame(await values('scalar'), [[], [0.25]])
  t.strictSame(await values('empty'), [[0, 4], []])
  t.equal(file.tensors.size, 11)
  await t.rejects(file.read('whole.'), { code: 'ERR_MAMMO_CHECKPOINT', message: /no tensor "whole\."/ })
}

t.test('stored files: state dict, checkpoint, and the format before 1.6', async (t) => {
  const plain = await openWeightFile(stored('plain.pth'))
  await checkState(t, plain)
  t.strictSame(plain.outside, {})
  await plain.close()
  for (const name of ['checkpoint.pth', 'checkpoint-legacy.pth']) {
    const file = await openWeightFile(stored(name))
    await checkState(t, file)
    t.strictSame(
      file.outside,
      { 'optimizer.state.0.momentum_buffer': 'no parameter: the parameters stand in "model"' },
      'what is beside the parameters is named',
    )
    await file.close()
  }
})

t.test('files that Python makes here', async (t) => {
  const python = process.env['MAMMO_PEER_PYTHON']
  const usable = python !== undefined && spawnSync(python, ['-c', 'import torch']).status === 0
  if (!usable) return t.pass('skipped', { skip: 'no Python with torch; set MAMMO_PEER_PYTHON' })
  const folder = t.testdir()
  const script = `
import os, sys, torch
torch.manual_seed(1)
class Evil:
    def __reduce__(self): return (os.system, ('touch ' + sys.argv[1] + '/ran',))
class Quiet:
    def __reduce__(self): return (eval, ('1',))
sd = {'conv.weight': torch.randn(4, 3, 3, 3), 'bn.num_batches_tracked': torch.tensor(3)}
for kind, new in (('zip', True), ('legacy', False)):
    save = lambda value, name: torch.save(value, sys.argv[1] + '/' + name + '-' + kind + '.pth', _use_new_zipfile_serialization=new)
    save({'state_dict': sd}, 'good')
    save({'state_dict': sd, 'hook': Evil()}, 'evil')
    save([sd, Quiet()], 'eval')
    save(torch.nn.Linear(2, 2), 'module')
sd['conv.weight'].numpy().tofile(sys.argv[1] + '/raw')
`
  t.equal(spawnSync(python, ['-c', script, folder], { encoding: 'utf8' }).stderr, '')
  const raw = new Float32Array(new Uint8Array(readFileSync(join(folder, 'raw'))).buffer)
  for (const kind of ['zip', 'legacy']) {
    const file = await openWeightFile(join(folder, `good-${kind}.pth`))
    t.strictSame(await file.read('conv.weight'), { shape: [4, 3, 3, 3], data: raw }, kind)
    await file.close()
    const global = async (name: string, wanted: RegExp) =>
      t.rejects(openWeightFile(join(folder, `${name}-${kind}.pth`)), {
        code: 'ERR_MAMMO_CHECKPOINT',
        message: wanted,
        where: join(folder, `${name}-${kind}.pth`),
      })
    await global('evil', /tensors only: it asks for posix\.system, and nothing in a file is ever run/)
    await global('eval', /__builtin__\.eval|builtins\.eval/)
    await global('module', /torch\.nn\.modules\.linear\.Linear/)
  }
  t.throws(() => readFileSync(join(folder, 'ran')), { code: 'ENOENT' }, 'nothing was run')
})

const latin = (text: string) => Buffer.from(text, 'latin1')

t.test('hostile files', async (t) => {
  const folder = t.testdir()
  let number = 0
  const refused = async (bytes: Buffer, message: RegExp) => {
    const path = join(folder, `${number++}.pth`)
    writeFileSync(path, bytes)
    await t.rejects(openWeightFile(path), { code: 'ERR_MAMMO_CHECKPOINT', message, where: path }, String(message))
  }
  const zip = (pickle: string, ...more: ZipPart[]) => zipBytes([{ name: 'a/data.pkl', data: latin(pickle) }, ...more])
  const data: ZipPart = { name: 'a/data/0', data: Buffer.alloc(16) }
  const storage = (count: number) => `((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI${count}\ntQ`
  const tensor = (count: number, offset: string, shape: string, stride: string) =>
    `}S'w'\nctorch._utils\n_rebuild_tensor_v2\n${storage(count)}${offset}${shape}${stride}I00\nNtRs.`

  await refused(zip("cos\nsystem\n(S'echo hello'\ntR."), /os\.system/)
  await refused(zip("cbuiltins\neval\n(S'1'\ntR."), /builtins\.eval/)
  await refused(zip("cbuiltins\ngetattr\n(ctorch\nFloatStorage\nS'x'\ntR."), /builtins\.getattr/)
  await refused(zip("ctorch\nload\n(S'other.pth'\ntR."), /torch\.load/)
  await refused(zip('ctorch.hub\nload\n.'), /torch\.hub\.load/)
  await refused(zip("ctorch.storage\n_load_from_bytes\n(S'x'\ntR."), /torch\.storage\._load_from_bytes/)
  await refused(zip('c__main__\nFloatStorage\n.'), /__main__\.FloatStorage/)
  await refused(zip("(S'module'\nctorch\nFloatStorage\nS'source'\ntQ."), /persistent id that is no storage/)
  await refused(zip('Pmodule\n.'), /persistent id that is no storage/)
  await refused(zip("(S'storage'\ncos\nsystem\nS'0'\nS'cpu'\nI1\ntQ."), /os\.system/)
  await refused(zip("(S'storage'\nccollections\nOrderedDict\nS'0'\nS'cpu'\nI1\ntQ."), /persistent id/)
  // A tensor that claims more than there is.
  await refused(zip(tensor(4, 'I0\n', '(I5\nt', '(I1\nt'), data), /"w" of shape \[5\].*within its 4 numbers/)
  await refused(zip(tensor(4, 'I4\n', '(I1\nt', '(I1\nt'), data), /within its 4 numbers/)
  await refused(zip(tensor(4, 'I0\n', '(I1000000\nI1000000\nt', '(I0\nI0\nt'), data), /within its 4 numbers/)
  await refused(zip(tensor(4, 'I0\n', '(I2\nI2\nt', '(I1\nt'), data), /strides \[1\]/)
  await refused(zip(tensor(4, 'I-1\n', '(I1\nt', '(I1\nt'), data), /expected a size, got -1/)
  await refused(zip(tensor(4, 'I0\n', '(I-2\nt', '(I1\nt'), data), /expected a size, got -2/)
  await refused(zip(tensor(4, 'F0.5\n', '(I2\nt', '(I1\nt'), data), /expected a size, got 0\.5/)
  // Parts that are compressed (bombs), twice there, missing, outside, of another byte order.
  const bomb = { name: 'a/data.pkl', data: Buffer.alloc(100), method: 8, claimed: 4_000_000_000 }
  await refused(zipBytes([bomb]), /"data\.pkl" is compressed or encrypted/)
  await refused(zip('}.', { name: 'b/data.pkl', data: latin('].') }), /occurs twice/)
  await refused(zipBytes([{ name: 'a/other', data: Buffer.alloc(4) }]), /"data\.pkl" is missing/)
  await refused(zip('}.', { name: '../data/0', data: Buffer.alloc(4) }), /list of contents is damaged/)
  await refused(zip('}.', { name: 'a/byteorder', data: latin('big') }), /big-endian/)
  await refused(zip('}.'), /no dictionary of tensors/)
  await refused(zip('.'), /nothing to take/)
  await refused(latin('\x80\x02K\x01.'), /a pickle, but none that PyTorch wrote/)
  await refused(latin('\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02K\x01.'), /it has protocol 1, 1001 is known/)
  await refused(Buffer.from('<!doctype html><html>404'), /first bytes are of none of them/)
  await refused(Buffer.alloc(0), /first bytes are of none of them/)
  // A part that is shorter than its tensor: told when it is read.
  const short = join(folder, 'short.pth')
  writeFileSync(short, zip(tensor(8, 'I0\n', '(I8\nt', '(I1\nt'), data))
  const file = await openWeightFile(short)
  await t.rejects(file.read('w'), { code: 'ERR_MAMMO_CHECKPOINT', message: /"a\/data\/0" is too short/ })
  await file.close()
})

t.test('files cut off anywhere, and files with single bytes changed', async (t) => {
  const folder = t.testdir()
  const path = join(folder, 'cut.pth')
  let opened = 0
  const survives = async (bytes: Buffer, what: string) => {
    writeFileSync(path, bytes)
    try {
      const file = await openWeightFile(path)
      try {
        for (const name of file.tensors.keys()) await file.read(name)
        opened++
      } finally {
        await file.close()
      }
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_MAMMO_CHECKPOINT') {
        t.fail(`${what}: ${(error as Error).stack}`)
      }
    }
  }
  for (const name of ['checkpoint.pth', 'checkpoint-legacy.pth']) {
    const good = readFileSync(stored(name))
    opened = 0
    for (let length = 0; length < good.length; length += 41) {
      await survives(good.subarray(0, length), `${name} cut at ${length}`)
    }
    t.equal(opened, 0, `${name}: no cut file opens`)
    for (let i = 0; i < good.length; i += 11) {
      const changed = Buffer.from(good)
      changed[i] = changed[i]! ^ (1 << (i % 8))
      await survives(changed, `${name} with byte ${i} changed`)
    }
  }
})
