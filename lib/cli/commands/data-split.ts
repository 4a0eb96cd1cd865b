// `data split`: divides a prepared folder anew and proves that its parts share nothing.
import type { CommandFile } from '../command.js'
import { declareSplit, type SplitFlags, splitOptions, thinParts } from '../split-options.js'

export const dataSplitCommand: CommandFile = {
  name: 'data split',
  summary: 'divide a prepared folder into parts or folds by patient, and prove that nothing leaks',
  examples: [
    'data split prepared --ratio 0.7,0.15,0.15 --seed 1',
    'data split prepared --exclude-run runs/train/start-1 --ratio 0.5,0.5,0',
  ],
  declare: (command) => {
    command.argument('<dir>', 'prepared folder')
    declareSplit(command)
    command.option(
      '--exclude-run <dir...>',
      'leave out the patients that these runs trained on, for starts from their weights',
    )
  },
  async run(io, global, options, [dir]) {
    const { splitDataset } = await import('../../tasks/split.js')
    const summary = await splitDataset(dir!, {
      ...splitOptions(options as unknown as SplitFlags),
      ...(options.excludeRun === undefined ? {} : { excludeRuns: options.excludeRun as string[] }),
    })
    const { split, counts, leaks } = summary
    if (!global.quiet) for (const line of thinParts(summary)) io.stderr(`warning: ${line}\n`)
    const found = leaks.flatMap((list, fold) => list.map((leak) => ({ fold, ...leak })))
    const errors = found.filter((leak) => leak.level === 'error')
    // Images are divided one by one for comparison with published numbers only: the leak is what that method is.
    const code = errors.length > 0 && split.method !== 'image-wise' ? 3 : 0
    if (global.json) {
      io.stdout(`${JSON.stringify({ split, counts, leaks }, null, 2)}\n`)
      return code
    }
    const lines = [`split ${split.method}, seed ${split.seed}${split.ratio ? `, ratio ${split.ratio.join(',')}` : ''}`]
    for (const [k, parts] of counts.entries()) {
      const text = Object.entries(parts).map(
        ([part, c]) => `${part} ${c.images} images, ${c.patients} patients, ${c.lesions} lesions`,
      )
      lines.push(`  fold ${k}: ${text.join('; ')}`)
    }
    if (split.unused.length > 0)
      lines.push(`  ${split.unused.length} images are in no part (not annotated, or excluded)`)
    const shared = new Set(found.filter(({ rule }) => rule === 'leak/patient').map(({ key }) => key))
    lines.push(
      shared.size === 0
        ? `proof: 0 patients in more than one part, in ${counts.length} fold${counts.length === 1 ? '' : 's'}`
        : `LEAK: ${shared.size} patients are in more than one part: ${[...shared].slice(0, 5).join(', ')}`,
    )
    for (const { fold, level, rule, parts, ids } of found.filter((leak) => leak.rule !== 'leak/patient').slice(0, 10)) {
      lines.push(`  ${level} ${rule}, fold ${fold}: ${parts.join(' and ')} share ${ids.join(' = ')}`)
    }
    io.stdout(`${lines.join('\n')}\n`)
    if (code !== 0)
      io.stderr('error ERR_MAMMO_SPLIT_LEAK: parts share what they must not; training refuses this split\n')
    return code
  },
}
