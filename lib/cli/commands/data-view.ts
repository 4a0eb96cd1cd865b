// `data view`: pictures of a prepared folder.
import { type CommandFile, integerFrom } from '../command.js'
import { dataConfig, declarePreset } from '../reading-options.js'

interface ViewFlags {
  out: string
  ids?: string
  anchors?: boolean
  augment?: boolean
  predictions?: string
  maxSide?: number
  preset?: string
}

export const dataViewCommand: CommandFile = {
  name: 'data view',
  summary: 'draw images with their lesions, what the network sees, matching anchors, predictions',
  examples: [
    'data view prepared --out pictures --anchors',
    'data view prepared --preset inbreast-two-stage --augment --anchors --out patches',
  ],
  declare: (command) => {
    command
      .argument('<dir>', 'prepared folder')
      .requiredOption('--out <dir>', 'folder of the pictures')
      .option('--ids <ids>', 'image ids, separated by commas; default the first 16')
      .option('--anchors', 'draw positive anchors; green corners or NO ANCHOR at each lesion')
      .option('--augment', 'draw training samples of epoch 0: crop, scale and augmentation of the configuration')
      .option('--predictions <file>', 'draw stored predictions (COCO JSON), with MISS and FP')
      .option('--max-side <px>', 'reduce pictures to this longer side', integerFrom(1))
    declarePreset(command)
  },
  async run(io, global, options, [dir]) {
    const { viewDataset } = await import('../../tasks/view.js')
    const { ids, preset, ...flags } = options as unknown as ViewFlags
    const config = await dataConfig(global, preset)
    const paths = await viewDataset(dir!, { ...flags, config, ...(ids === undefined ? {} : { ids: ids.split(',') }) })
    io.stdout(global.json ? `${JSON.stringify({ paths }, null, 2)}\n` : paths.map((path) => `${path}\n`).join(''))
    return 0
  },
}
