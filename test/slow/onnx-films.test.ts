// The exported graph against the engine on real films: 50 crops per backbone family, and a whole film at full resolution with ResNet-50 once
// per semantics. Needs the addon and the films of the data folder.
// MAMMO_FAMILIES=name,name and MAMMO_SEMANTICS=name,name run some of them ("none": none); MAMMO_FILMS is the number of whole films, 1 by default.
import { stat } from 'node:fs/promises'
import t from 'tap'
import { padMultiple } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import { withoutData } from '../data-folder.js'
import { checkFilms, filmCrops, filmPaths, wholeFilm } from '../parity/film-parity.js'

t.setTimeout(7_200_000)

const FAMILIES = [
  ...[
    'resnet18',
    'resnet50',
    'resnext50_32x4d',
    'vgg16',
    'densenet121',
    'mobilenet_v1_100',
    'mobilenet_v2',
    'mobilenet_v3_large',
  ],
  ...['seresnet50', 'efficientnet_b0', 'convnext_tiny'],
]
const SEMANTICS = ['mammo', 'torchvision-v1', 'torchvision-v2', 'keras-retinanet'] as const
const CROPS = 50
const SIDE = 128

const chosen = (name: string, all: readonly string[]) => process.env[name]?.split(',') ?? all
const paths = filmPaths()

const missing = withoutData('cbis-ddsm-fullres')

if (missing) {
  t.pass('films', { skip: missing })
} else {
  const crops = await filmCrops(CROPS, SIDE)
  for (const family of FAMILIES.filter((name) => chosen('MAMMO_FAMILIES', FAMILIES).includes(name))) {
    t.test(`${CROPS} crops, ${family}`, async (t) => {
      t.equal(crops.length, CROPS)
      await checkFilms(t, family, defaultConfig('mammo', family), crops)
    })
  }
  for (const semantics of SEMANTICS.filter((name) => chosen('MAMMO_SEMANTICS', SEMANTICS).includes(name))) {
    t.test(`whole films, ResNet-50, ${semantics}`, async (t) => {
      const config = defaultConfig(semantics, 'resnet50')
      const bytes = await Promise.all(paths.map(async (path) => [path, (await stat(path)).size] as const))
      const smallest = bytes.sort(([, a], [, b]) => a - b).slice(0, Number(process.env['MAMMO_FILMS'] ?? 1))
      for (const [path] of smallest) {
        const film = await wholeFilm(path, padMultiple(config))
        await checkFilms(t, `${semantics}, ${film.name} as ${film.height}x${film.width}`, config, [film])
      }
    })
  }
}
