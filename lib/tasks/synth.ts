// `data synth`: synthetic mammograms in the layout of INbreast.
export { type SynthOptions, type SynthSummary, synthesize } from '../data/synth.js'
