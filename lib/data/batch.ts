// The batch of values that data hands to training and evaluation: the same structure as ImageBatch and TargetBatch of the
// binding's contract, declared here because lib/data works without the binding. Ragged data is flat with n+1 offsets.

/** Windows of 16-bit pixels and how each becomes a network input; see the binding's contract for every field's meaning. */
export interface SampleWindows {
  /** All windows one after the other, each row-major [height, width]. */
  pixels: Uint16Array
  /** [n,2] height, width of each window. */
  shapes: Int32Array
  /** [n,6] output pixel to window pixel, 2x3 row-major, pixel-edge coordinates. */
  affines: Float64Array
  /** [n] average 2^k x 2^k blocks of the window first. */
  reduce: Int32Array
  /** [n,2] mean, standard deviation. */
  normalise: Float32Array
  /** [n,4] contrast, brightness, gamma, noise sigma; (1,0,1,0) changes nothing. */
  intensity: Float32Array
  /** [n] */
  noiseSeed: Uint32Array
  /** [n,3] elastic displacement: amplitude, spacing of its nodes, seed. Absent: nothing moves. */
  elastic?: Float64Array
}

export interface SampleBatch {
  /** Height, width of the network input. */
  canvas: [number, number]
  /** [n,2] height, width of the real image inside the canvas. */
  sizes: Int32Array
  windows: SampleWindows
}

/** Ground truth of a batch in canvas pixels. */
export interface SampleTargets {
  boxes: Float32Array
  labels: Int32Array
  boxOffsets: Int32Array
  ignore: Float32Array
  ignoreOffsets: Int32Array
}
