// The detector's configuration as plain structs, field by field what lib/binding/types.ts declares
// (same meaning, snake_case). No field has a default: the TypeScript side resolves presets and
// semantics, the native side only obeys.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mammo {

enum class NormPolicy { kFrozen, kTrain, kGroup };
enum class Padding { kSymmetric, kTf };
/// Blocks whose activations are computed again in the backward. Early: those up to C2, which hold
/// the largest maps and the fewest operations. In JSON false, "early", true.
enum class Recompute { kNothing, kEarly, kAll };

struct ModelConfig {
  std::string backbone;
  int channels;
  int stem_width;
  bool stride_in_1x1;
  Padding padding;
  NormPolicy norm;
  double norm_eps;
  std::vector<int> levels;
  int fpn_channels;
  bool p6_from_c5;
  bool fpn_glorot;
  int head_depth;
  bool group_norm_classification;
  bool group_norm_box;
  int classes;
  double prior;
  int frozen_stages;
  Recompute checkpoint_activations;
};

struct AnchorConfig {
  std::vector<double> sizes;
  std::vector<double> strides;
  std::vector<double> scales;
  std::vector<double> ratios;
  bool shape_by_area;
  bool truncate_sizes;
  bool round_corners;
  double offset;
  bool floor_division_strides;
};

enum class MatcherKind { kIou, kAtss };
enum class OutsideRule { kBackground, kIgnoreBackground, kIgnoreAll };

struct MatcherConfig {
  MatcherKind kind;
  float positive_iou;
  float negative_iou;
  bool negative_inclusive;
  bool low_quality;
  float low_quality_min_iou;
  OutsideRule outside;
  int atss_topk;
  bool atss_centre_in_box;
};

struct CoderConfig {
  bool corner;
  std::array<float, 4> weights;
  std::optional<float> clamp;
};

enum class BoxLossKind { kL1, kSmoothL1, kGiou, kDiou, kCiou };
enum class Normaliser { kPerImage, kBatch, kEma };

struct LossConfig {
  double alpha;
  double gamma;
  BoxLossKind box;
  double box_beta;
  double classification_weight;
  double box_weight;
  Normaliser normaliser;
  double ema_momentum;
  double ema_start;
};

enum class ClipRule { kImage, kCanvasMinusOne, kNone };

struct PostConfig {
  float score_threshold;
  std::optional<int> topk_per_level;
  float nms_iou;
  bool agnostic;
  bool best_class_only;
  int max_detections;
  float min_size;
  ClipRule clip;
};

struct DetectorConfig {
  ModelConfig model;
  AnchorConfig anchors;
  MatcherConfig matcher;
  CoderConfig coder;
  LossConfig loss;
  PostConfig post;
};

enum class OptimizerKind { kSgd, kAdam, kAdamW };

struct OptimizerConfig {
  OptimizerKind kind;
  double momentum;
  bool nesterov;
  double beta1;
  double beta2;
  double eps;
  bool eps_outside_bias_correction;
  bool decay_norms;
};

enum class Precision { kFp32, kBf16, kFp16 };

struct SessionConfig {
  DetectorConfig detector;
  OptimizerConfig optimizer;
  std::string device;
  uint64_t seed;
  bool deterministic;
  Precision precision;
};

/// Reads the JSON text of a SessionConfig. Throws mammo::Error("CONFIG") naming the key that is
/// missing, unknown or out of its set; combinations that cannot be built (P7 without P6, sizes
/// unlike levels) are errors here too.
SessionConfig parse_session_config(const std::string& json);

/// The same rules for the JSON text of a ModelConfig alone.
ModelConfig parse_model_config(const std::string& json);

/// Those parts of a DetectorConfig that the text holds, by the same rules; absent parts stay empty
/// and must not be used. For single ops in tests and benchmarks.
DetectorConfig parse_detector_parts(const std::string& json);

/// What may change within a run.
struct SessionUpdate {
  std::optional<int> frozen_stages;
  std::optional<Recompute> checkpoint_activations;
  std::optional<LossConfig> loss;
  std::optional<PostConfig> post;
};

/// The same rules for the JSON text of a SessionUpdate; absent keys change nothing.
SessionUpdate parse_session_update(const std::string& json);

/// The JSON texts that parse back to the same structs; keys sorted.
std::string detector_json(const DetectorConfig& config);
std::string optimizer_json(const OptimizerConfig& config);

}  // namespace mammo
