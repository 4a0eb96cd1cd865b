// Public: build the native addon, finding or fetching LibTorch.
export { type BuildOptions, type BuildResult, build, ensureAddon } from '../build/build-addon.js'
