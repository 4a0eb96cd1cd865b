// Checks (or with --write: applies) clang-format on our C++ and CUDA files. Looks for clang-format on the PATH, then as a module of Python
// (`python3 -m pip install clang-format==19.1.7`); fails with that remedy when there is none.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../lib/package-root.js'

const native = join(packageRoot(), 'native')
const files = readdirSync(native, { recursive: true, encoding: 'utf8' })
  .filter((file) => /\.(h|cc|cu|cuh)$/.test(file) && !file.startsWith('third_party'))
  .map((file) => join(native, file))
const candidates: [string, string[]][] = [
  [process.env['CLANG_FORMAT'] ?? 'clang-format', []],
  ['python3', ['-m', 'clang_format']],
]
const found = candidates.find(([command, first]) => spawnSync(command, [...first, '--version']).status === 0)
if (found === undefined) {
  process.stderr.write(
    'error: clang-format not found\n  fix:   python3 -m pip install clang-format==19.1.7, or set CLANG_FORMAT\n',
  )
  process.exitCode = 4
} else {
  const mode = process.argv.includes('--write') ? ['-i'] : ['--dry-run', '--Werror']
  const result = spawnSync(found[0], [...found[1], ...mode, ...files], { stdio: 'inherit' })
  process.stdout.write(
    `clang-format: ${files.length} files ${result.status === 0 ? 'in order' : 'need formatting (npm run format)'}\n`,
  )
  process.exitCode = result.status ?? 1
}
