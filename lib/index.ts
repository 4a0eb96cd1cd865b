// The public API and nothing else. Every command has one function; functions return data, never print, never set the exit code.
export { type LoadedConfig, type LoadOptions, loadConfig } from './config/load.js'
export type { Config } from './config/schema.js'
export * from './errors.js'
export {
  type Detector,
  type DetectorOptions,
  loadDetector,
  type PredictOptions,
  type Source,
} from './predict/predictor.js'
export type { Prediction } from './predict/results.js'
export { anchorReport, optimizeAnchors } from './tasks/anchors.js'
export { type BuildOptions, type BuildResult, build } from './tasks/build.js'
export { checkDataset, writeCheckPage } from './tasks/check.js'
export { type CompareRunsOptions, type CompareRunsResult, compareRuns } from './tasks/compare.js'
export { type CrossValidateOptions, type CrossValidateResult, crossValidate } from './tasks/cv.js'
export { type DemoOptions, type DemoResult, demo } from './tasks/demo.js'
export { type DoctorReport, doctor } from './tasks/doctor.js'
export { type EvaluateResult, type EvaluateTaskOptions, evaluate } from './tasks/evaluate.js'
export { type ExportOptions, type ExportOutcome, exportOnnx } from './tasks/export.js'
export { type ExportedWeights, exportWeights } from './tasks/export-weights.js'
export { describeTarget, type Info } from './tasks/info.js'
export { type PredictSummary, type PredictTaskOptions, predict } from './tasks/predict.js'
export { type PrepareDatasetOptions, prepareDataset } from './tasks/prepare.js'
export { type ReportOptions, writeReport } from './tasks/report.js'
export { splitDataset } from './tasks/split.js'
export { datasetStats } from './tasks/stats.js'
export { type SweepResult, type SweepTaskOptions, sweep } from './tasks/sweep.js'
export { type SweepInferOptions, type SweepInferResult, sweepInfer } from './tasks/sweep-infer.js'
export { synthesize } from './tasks/synth.js'
export { type RunEvent, type TrainOptions, type TrainResult, type TrainRun, train } from './tasks/train.js'
export { type SeedsOptions, type SeedsResult, trainSeeds } from './tasks/train-seeds.js'
export { viewDataset } from './tasks/view.js'
export { type WatchOptions, type WatchSummary, watch } from './tasks/watch.js'
