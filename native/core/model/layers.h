// Convolution and normalisation as plain data plus functions, and the builder that creates and
// initialises their parameters. The arithmetic type is that of the input: weights stay float32 and
// are cast to it. Method: retinanet spec 1.2, 1.4, 2.2.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>

#include "core/config.h"
#include "core/model/parameters.h"

namespace mammo {

struct Conv {
  at::Tensor weight;  // [out, in, k, k], k odd
  at::Tensor bias;    // [out] or undefined
  int stride;
  Padding padding;  // matters for stride 2 only
};

/// Batch norm (running statistics used, or batch statistics) or group norm, by policy.
struct Norm {
  NormPolicy policy;
  at::Tensor weight, bias;
  at::Tensor mean, variance;  // undefined for group
  double eps;
};

struct ConvNorm {
  Conv conv;
  Norm norm;
};

/// What batch norm of policy `train` does. Frozen and group norm do the same in all three.
enum class Phase {
  kEvaluate,   // running statistics
  kTrain,      // batch statistics; the running ones move
  kRecompute,  // batch statistics; the running ones stay: second forward of a checkpointed block
};

at::Tensor convolve(const Conv& layer, const at::Tensor& x);

/// Convolution and norm. Where the statistics are fixed both are one convolution (the norm is
/// folded into the weight).
at::Tensor convolve(const ConvNorm& layer, const at::Tensor& x, Phase phase);

at::Tensor group_norm(const Norm& layer, const at::Tensor& x);

/// 3x3 maximum, stride 2; padding counts as -infinity.
at::Tensor max_pool(const at::Tensor& x, Padding padding);

enum class Init {
  kKaimingNormalFanOut,  // N(0, 2 / (out k^2)): torchvision's backbones
  kKaimingUniform,       // bound sqrt(3 / fan in): torchvision's pyramid, a = 1
  kGlorotUniform,        // bound sqrt(6 / (fan in + fan out)): keras-retinanet's pyramid
  kSmallNormal,          // N(0, 0.01): heads
};

/// Creates parameters in call order from one random stream, on the CPU, so that every device starts
/// alike.
class Builder {
 public:
  Builder(ParameterList& list, at::Generator generator, at::Device device)
      : list_(list), generator_(std::move(generator)), device_(device) {}

  struct ConvShape {
    int in, out, kernel;
    int stride = 1;
    bool bias = false;
    Padding padding = Padding::kSymmetric;
  };
  Conv conv(const std::string& name, int stage, const ConvShape& shape, Init init, double bias = 0);
  Norm norm(const std::string& name, int stage, int channels, NormPolicy policy, double eps);

 private:
  at::Tensor add(const std::string& name, int stage, Role role, bool frozen,
                 const at::Tensor& value);

  ParameterList& list_;
  at::Generator generator_;
  at::Device device_;
};

}  // namespace mammo
