// The detector as one object: create, train, detect, save. What native/addon wraps one to one for
// lib/binding/types.ts; every field and call here has the same name and meaning there, in
// snake_case. No threads and no queue of its own: all calls of a process come from one thread. No
// LibTorch type appears, so that the addon compiles without LibTorch's headers.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/error.h"

namespace mammo {

/// 16-bit windows of n images; see WindowBatch in types.ts for the meaning of every field.
struct WindowBatch {
  std::vector<uint16_t> pixels;      // all windows, one after the other
  std::vector<int32_t> shapes;       // [n,2] height, width
  std::vector<double> affines;       // [n,6]
  std::vector<int32_t> reduce;       // [n]
  std::vector<float> normalise;      // [n,2] mean, std
  std::vector<float> intensity;      // [n,4]
  std::vector<uint32_t> noise_seed;  // [n]
  std::vector<double> elastic;       // [n,3] amplitude, spacing, seed; empty: nothing moves
};

/// n images on one canvas. Exactly one of windows and input is set.
struct ImageBatch {
  std::array<int64_t, 2> canvas;  // height, width
  std::vector<int32_t> sizes;     // [n,2] real height, width
  std::optional<WindowBatch> windows;
  std::optional<std::vector<float>> input;  // [n, channels, canvas h, canvas w]
};

/// Ground truth in canvas pixels. Boxes xyxy with positive sides, labels in [0, classes).
struct TargetBatch {
  std::vector<float> boxes;             // [m,4]
  std::vector<int32_t> labels;          // [m]
  std::vector<int32_t> box_offsets;     // [n+1]
  std::vector<float> ignore;            // [k,4]
  std::vector<int32_t> ignore_offsets;  // [n+1]
};

struct StepOptions {
  double lr;
  double weight_decay;
  std::optional<double> clip_norm;
  std::optional<double> clip_norm_per_tensor;
  std::optional<double> clip_value;
  double loss_scale;
  bool update;
  bool skip_non_finite;
  std::optional<double> ema_decay = std::nullopt;  // of the average of weights; none: no average
};

/// Seconds by part of the call: copy, warp, then in training matching, backbone, neck,
/// classification, box, loss (with the gradient of the focal loss), classificationBackward,
/// boxBackward, neckBackward, backboneBackward, optimizer; in detection forward, postprocess.
using Seconds = std::map<std::string, double>;

struct StepResult {
  double loss;
  double classification;
  double box;
  double grad_norm;  // NaN when not updated
  int64_t positives;
  std::vector<double> per_image;
  bool finite;
  bool updated;
  double scale;  // of the loss in this step's backward; 1 unless fp16
  bool
      overflowed;  // fp16: the scale was too large; the update was left out, the next scale is half
  Seconds seconds;
};

struct Detections {
  std::vector<float> boxes;      // [d,4]
  std::vector<float> scores;     // [d]
  std::vector<int32_t> labels;   // [d]
  std::vector<int32_t> offsets;  // [n+1]
  Seconds seconds;
};

struct RawOutputs {
  std::vector<int32_t> grids;  // [levels,2]
  std::vector<float> logits;   // [n, total, K]
  std::vector<float> deltas;   // [n, total, 4]
  std::vector<float> anchors;  // [total, 4]
};

struct ParameterInfo {
  std::string name;
  std::vector<int64_t> shape;
  std::string role;  // weight, bias, norm, buffer
  bool trainable;
};

struct TensorValue {
  std::vector<int64_t> shape;
  std::vector<float> data;
};

struct LoadReport {
  std::vector<std::string> loaded;
  std::map<std::string, std::string> skipped;  // name -> reason
};

struct LoadedCheckpoint {
  std::string metadata;
  LoadReport report;
};

enum class LoadWhat { kAll, kWeights };

struct MemoryUse {
  int64_t device_bytes, device_peak_bytes, resident_bytes, resident_peak_bytes;
};

struct EngineInfo {
  int threads;
  std::string capability;  // what LibTorch's kernels use: DEFAULT, AVX2, AVX512
  int cuda_devices;
  bool bf16;  // hardware bf16 arithmetic on the CPU
};

struct LibraryInfo {
  std::string libtorch;
  std::optional<std::string> cuda;
  std::string compiler;
};

/// Sets the intra-op threads of the calling thread's process. threads >= 1.
EngineInfo configure_engine(int threads);

/// Versions this library was compiled against and with.
LibraryInfo library_info();

/// Memory of the process (Linux: VmRSS, VmHWM) and of the CUDA allocator, in bytes.
MemoryUse memory_use();

class Session {
 public:
  /// Initialises the parameters from config.seed. Error CONFIG, NO_CUDA.
  explicit Session(const SessionConfig& config);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// In a fixed order; buffers are the running statistics.
  std::vector<ParameterInfo> parameters() const;
  /// Error ARGUMENT for an unknown name.
  TensorValue get_tensor(const std::string& name) const;
  /// Error ARGUMENT for an unknown name or another number of elements.
  void set_tensor(const std::string& name, std::span<const float> data);
  /// The gradient accumulated since the last update; zeros before any backward. Error ARGUMENT for
  /// a parameter that is not trained.
  TensorValue get_gradient(const std::string& name) const;
  void zero_gradients();

  /// Forward, loss, backward; with options.update also the optimiser's step, after which the
  /// gradients are cleared (also when the update was left out because it was not finite).
  StepResult train_step(const ImageBatch& batch, const TargetBatch& targets,
                        const StepOptions& options);
  /// The loss in evaluation mode, of the averaged weights where there are some (so do detect and
  /// forward), without gradients and without touching the normaliser's state.
  StepResult evaluate_loss(const ImageBatch& batch, const TargetBatch& targets);
  Detections detect(const ImageBatch& batch);
  RawOutputs forward(const ImageBatch& batch);
  /// float32 [n, channels, canvas h, canvas w]
  std::vector<float> preprocess(const ImageBatch& batch);

  /// JSON text of SessionUpdate. Error CONFIG.
  void update(const std::string& json);
  /// One .safetensors file, written atomically. Gradients accumulated but not applied are not part
  /// of it. Error CHECKPOINT, DISK_FULL.
  void save_checkpoint(const std::string& path, const std::string& metadata) const;
  /// Changes nothing when it throws. Error CHECKPOINT.
  LoadedCheckpoint load_checkpoint(const std::string& path, LoadWhat what);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mammo
