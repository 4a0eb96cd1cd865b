// Convolution and normalisation as plain data plus functions, and the builder that creates and
// initialises their parameters. The arithmetic type is that of the input: weights stay float32 and
// are cast to it. Method: retinanet spec 1.2, 1.4, 2.2.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/config.h"
#include "core/model/packed_conv.h"
#include "core/model/parameters.h"

namespace mammo {

/// Where the zeros of a convolution or the borders of a pool go. The first two are the
/// configuration's Padding.
enum class Border {
  kSymmetric,  // (k - 1) / 2 on each side: ceil(n / stride)
  kTf,         // TensorFlow's `same`: at stride 2 and even sizes one pixel less before
  kValid,      // none: floor
  kEnd,        // one pixel after, none before (keras-applications' MobileNet): floor
};
Border border(Padding padding);

/// A sliding window: kernel k x k.
struct SlidingWindow {
  int kernel;
  int stride = 1;
  Border border = Border::kSymmetric;
  /// Size of the output of `size` pixels.
  int64_t output(int64_t size) const;
};

struct Conv {
  at::Tensor weight;  // [out, in / groups, k, k]
  at::Tensor bias;    // [out] or undefined
  int stride;
  Border border;
  int groups = 1;
  std::shared_ptr<PackedConv> packed = std::make_shared<PackedConv>();  // filled when used
};

/// Batch norm (running statistics used, or batch statistics) or group norm, by policy.
struct Norm {
  NormPolicy policy;
  at::Tensor weight, bias;
  at::Tensor mean, variance;  // undefined for group
  double eps;
  double momentum = 0.1;  // share of the new batch in the running statistics
};

/// What batch norm of policy `train` does. Frozen and group norm do the same in all three.
enum class Phase {
  kEvaluate,   // running statistics
  kTrain,      // batch statistics; the running ones move
  kRecompute,  // batch statistics; the running ones stay: second forward of a checkpointed block
};

/// max(0, conv(x)) with `relu`. In phase kEvaluate without gradients as packed_conv.h does it, else
/// 3x3 windows of stride 1 as ops/winograd.h does, the rest as at::conv2d. `known`: the result of
/// the same call before, kept; then only the way back is prepared, and nothing is computed.
at::Tensor convolve(const Conv& layer, const at::Tensor& x, Phase phase = Phase::kEvaluate,
                    bool relu = false, const at::Tensor& known = {});

/// Whether ops/winograd.h computes this convolution of x: a 3x3 window of stride 1, one group and
/// one pixel around (`around` as of pad_for), large enough, and the trick is not turned off.
bool takes_winograd(const Conv& layer, int64_t around, const at::Tensor& x);

/// The input with the zeros that differ from side to side, and the padding left to the operator.
std::pair<at::Tensor, int64_t> pad_for(const Conv& layer, const at::Tensor& x);

/// True where the norm is a fixed factor and offset per channel and folding is switched on.
bool folds(const Norm& norm, Phase phase);

struct FoldedConv {
  at::Tensor weight, bias;
};

/// The convolution that equals `conv` and then `norm` with its running statistics.
FoldedConv fold(const Conv& conv, const Norm& norm);

/// Convolution, norm and, with `relu`, ReLU. Where the statistics are fixed the first two are one
/// convolution (the norm is folded into the weight), and `known` as above.
at::Tensor convolve(const Conv& conv, const Norm& norm, const at::Tensor& x, Phase phase,
                    bool relu = false, const at::Tensor& known = {});

/// max(0, a + b), in the memory of `a` with `overwrite`.
at::Tensor add_relu(const at::Tensor& a, const at::Tensor& b, bool overwrite);

/// The norm alone.
at::Tensor normalise(const Norm& norm, const at::Tensor& x, Phase phase);

at::Tensor group_norm(const Norm& layer, const at::Tensor& x);

/// Over the channels of each position: x [n, c, h, w], weight and bias [c].
at::Tensor layer_norm(const Norm& layer, const at::Tensor& x);

/// Padding counts as -infinity.
at::Tensor max_pool(const at::Tensor& x, const SlidingWindow& window);

/// Whether relu_max_pool takes x: gradients are kept, ops/max_pool.h takes it, and the trick is not
/// turned off.
bool takes_relu_max_pool(const at::Tensor& x);

/// max_pool(max(0, x)), which keeps a byte per pixel of the result and not x.
at::Tensor relu_max_pool(const at::Tensor& x, const SlidingWindow& window);

/// Mean of the pixels inside; no padding.
at::Tensor average_pool(const at::Tensor& x, const SlidingWindow& window);

enum class Init {
  kKaimingNormalFanOut,  // N(0, 2 / (out k^2)): torchvision's backbones
  kKaimingUniform,       // bound sqrt(3 / fan in): torchvision's pyramid, a = 1
  kGlorotUniform,        // bound sqrt(6 / (fan in + fan out)): keras-retinanet's pyramid
  kSmallNormal,          // N(0, 0.01): heads
  kNormal02,             // N(0, 0.02): ConvNeXt
};

/// Creates parameters in call order from one random stream, on the CPU, so that every device starts
/// alike. On the meta device they have shapes only.
class Builder {
 public:
  Builder(ParameterList& list, at::Generator generator, at::Device device)
      : list_(list), generator_(std::move(generator)), device_(device) {}

  struct ConvShape {
    int in, out, kernel;
    int stride = 1;
    bool bias = false;
    Border border = Border::kSymmetric;
    int groups = 1;
  };
  Conv conv(const std::string& name, int stage, const ConvShape& shape, Init init, double bias = 0);
  Norm norm(const std::string& name, int stage, int channels, NormPolicy policy, double eps);
  /// Weight and bias without statistics, trained with the stage.
  Norm layer_norm(const std::string& name, int stage, int channels, double eps);
  /// One factor per channel, all `value` at first.
  at::Tensor scale(const std::string& name, int stage, int channels, double value);

 private:
  void fill(at::Tensor& weight, Init init, double area, int in, int out);
  at::Tensor add(const std::string& name, int stage, Role role, bool frozen,
                 const at::Tensor& value);

  ParameterList& list_;
  at::Generator generator_;
  at::Device device_;
};

}  // namespace mammo
