import t from 'tap'
import { profileOf, profileTable } from '../../lib/train/profile.js'

t.test('parts are summed over micro-batches and averaged over steps; the rest is other', async (t) => {
  const profile = profileOf([
    {
      seconds: 10,
      waited: 1,
      parts: [
        { backbone: 2, optimizer: 0 },
        { backbone: 3, optimizer: 1 },
      ],
    },
    { seconds: 20, waited: 0, parts: [{ backbone: 15 }] },
  ])
  t.same(profile, { steps: 2, seconds: { data: 0.5, backbone: 10, optimizer: 0.5, other: 4 }, total: 15 })
  t.match(profileTable(profile).join('\n'), /backbone +10\.0000 s +66\.7%/)
})

t.test('no steps', async (t) => {
  t.same(profileOf([]), { steps: 0, seconds: { data: 0, other: 0 }, total: 0 })
})
