// A backbone as data: a list of operations in execution order with taps C2..C5, built by one file
// per family (backbones/*.cc), run by one interpreter (backbone.cc), described to others as JSON.
// No training policy here: retinanet.h decides what is trained and what is computed again.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/model/layers.h"

namespace mammo {

using Taps = std::array<at::Tensor, 6>;  // [2..5]: C2..C5; unused ones are undefined

enum class Op {
  kConv,
  kNorm,  // batch or group norm, by policy
  kLayerNorm,
  kRelu,
  kRelu6,
  kHardswish,
  kHardsigmoid,
  kSilu,
  kSigmoid,
  kGelu,
  kMaxPool,
  kAvgPool,
  kGlobalAvgPool,
  kAdd,
  kMul,
  kConcat,
  kScale,  // one factor per channel
};

struct Node {
  std::string name;  // its parameters are <name>.weight, <name>.bias, ...
  Op op;
  std::vector<int> inputs;  // earlier nodes; -1 is the network's input
  int stage;                // 1 the stem, 2..5: as a pyramid level
  int channels;             // of the output
  SlidingWindow window{1};  // convolutions and pools
  Conv conv;
  Norm norm;
  at::Tensor scale;
};

/// Nodes first..last-1, which read only `input` from outside. What comes after reads only their
/// last node and no other: the unit of activation checkpointing.
struct Segment {
  int stage;
  int first, last;
  int input;
};

struct Tap {
  int level;
  int node;
  int channels;
};

struct Backbone {
  std::vector<Node> nodes;
  std::vector<Segment> segments;  // in order, without gaps
  std::vector<Tap> taps;          // by level
  std::vector<int> last_reader;   // by node: the last node that reads it, or the node itself
  std::vector<int> readers;       // by node: how many nodes and taps read it
};

/// The names of all backbones.
const std::vector<std::string>& backbone_names();

/// Throws CONFIG for an unknown name.
Backbone make_backbone(const ModelConfig& config, Builder& builder);

/// Results of convolutions, with the norm and ReLU of the same call, that survive from a segment's
/// forward pass to its recomputation; by node.
using KeptMaps = std::map<int, at::Tensor>;

/// Output of the segment's last node for `x`, the value of its input; taps inside it are stored in
/// `taps`. Gradients as the caller's mode says. Without them and in phase kEvaluate the memory of
/// `x` may be used for the result, except the network's input and taps.
/// With `kept`: phase kRecompute takes what is there instead of computing it, the others put there
/// what is at most half as large as the segment's output. In a bottleneck those are its narrow
/// maps, and most of its multiplications.
at::Tensor run_segment(const Backbone& net, const Segment& segment, const at::Tensor& x,
                       Phase phase, Taps& taps, KeptMaps* kept = nullptr);

/// Rows and columns of C2..C5 (index 2..5) for an input of this size.
std::array<std::array<int64_t, 2>, 6> tap_sizes(const Backbone& net,
                                                const std::array<int64_t, 2>& input);

/// BackboneGraph of lib/binding/types.ts as JSON text.
std::string describe_backbone(const ModelConfig& config);

/// What the families build with. Every function adds one node behind the present ones and returns
/// its index.
class BackboneBuilder {
 public:
  BackboneBuilder(const ModelConfig& config, Builder& builder)
      : config(config), builder_(builder) {}

  const ModelConfig& config;

  /// Stage of the nodes that follow, 1..5.
  void stage(int number) { stage_ = number; }
  /// Ends a segment at the newest node.
  void cut();
  /// Makes `node` C<level>.
  void tap(int level, int node) { taps_.push_back({level, node, channels(node)}); }

  struct ConvOptions {
    int stride = 1;
    int groups = 1;
    bool bias = false;
    Init init = Init::kKaimingNormalFanOut;
    std::optional<Border> border{};  // default: the configured padding
  };
  int conv(const std::string& name, int input, int out, int kernel, const ConvOptions& options);
  int conv(const std::string& name, int input, int out, int kernel) {
    return conv(name, input, out, kernel, ConvOptions{});
  }
  int norm(const std::string& name, int input, double momentum = 0.1);
  int layer_norm(const std::string& name, int input, double eps);
  /// One of the operations without parameters and windows, named after its first input.
  int apply(Op op, int input);
  int pool(Op op, const std::string& name, int input, const SlidingWindow& window);
  int add(const std::string& name, int a, int b);
  /// a [n, c, h, w] times b [n, c, 1, 1].
  int mul(const std::string& name, int a, int b);
  int concat(const std::string& name, int a, int b);
  int scale(const std::string& name, int input, double value);

  int channels(int node) const { return node < 0 ? config.channels : nodes_[node].channels; }
  /// Squeeze and excitation: `node` times gate(fc2(act(fc1(mean of node)))).
  int squeeze_excite(const std::string& name, int node, int squeezed, Op activation, Op gate);

  Backbone finish();

 private:
  int push(Node node);

  Builder& builder_;
  int stage_ = 1;
  std::vector<Node> nodes_;
  std::vector<Segment> segments_;
  std::vector<Tap> taps_;
};

// The families. Each builds everything up to its last tap.
void build_resnet(BackboneBuilder& b);  // ResNet, ResNeXt, SE-ResNet, SE-ResNeXt
void build_vgg(BackboneBuilder& b);     // with and without batch norm
void build_densenet(BackboneBuilder& b);
void build_mobilenet_v1(BackboneBuilder& b);  // widths 1, 0.75, 0.5, 0.25
void build_mobilenet_v2(BackboneBuilder& b);
void build_mobilenet_v3(BackboneBuilder& b);  // large
void build_efficientnet(BackboneBuilder& b);  // B0..B7
void build_convnext(BackboneBuilder& b);      // tiny

}  // namespace mammo
