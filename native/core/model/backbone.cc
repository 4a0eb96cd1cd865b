// The interpreter of backbones, their registry and their description.
#include "core/model/backbone.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"

namespace mammo {
namespace {

using Build = void (*)(BackboneBuilder&);

const std::vector<std::pair<std::string, Build>>& registry() {
  static const std::vector<std::pair<std::string, Build>> list{
      {"resnet18", build_resnet},
      {"resnet34", build_resnet},
      {"resnet50", build_resnet},
      {"resnet101", build_resnet},
      {"resnet152", build_resnet},
      {"resnext50_32x4d", build_resnet},
      {"resnext101_32x8d", build_resnet},
      {"seresnet50", build_resnet},
      {"seresnet101", build_resnet},
      {"seresnet152", build_resnet},
      {"seresnext50_32x4d", build_resnet},
      {"seresnext101_32x4d", build_resnet},
      {"vgg16", build_vgg},
      {"vgg19", build_vgg},
      {"vgg16_bn", build_vgg},
      {"vgg19_bn", build_vgg},
      {"densenet121", build_densenet},
      {"densenet169", build_densenet},
      {"densenet201", build_densenet},
      {"mobilenet_v1_100", build_mobilenet_v1},
      {"mobilenet_v1_075", build_mobilenet_v1},
      {"mobilenet_v1_050", build_mobilenet_v1},
      {"mobilenet_v1_025", build_mobilenet_v1},
      {"mobilenet_v2", build_mobilenet_v2},
      {"mobilenet_v3_large", build_mobilenet_v3},
      {"efficientnet_b0", build_efficientnet},
      {"efficientnet_b1", build_efficientnet},
      {"efficientnet_b2", build_efficientnet},
      {"efficientnet_b3", build_efficientnet},
      {"efficientnet_b4", build_efficientnet},
      {"efficientnet_b5", build_efficientnet},
      {"efficientnet_b6", build_efficientnet},
      {"efficientnet_b7", build_efficientnet},
      {"convnext_tiny", build_convnext},
  };
  return list;
}

const char* op_name(const Node& node) {
  switch (node.op) {
    case Op::kConv:
      return "conv";
    case Op::kNorm:
      return node.norm.policy == NormPolicy::kGroup ? "groupNorm" : "batchNorm";
    case Op::kLayerNorm:
      return "layerNorm";
    case Op::kRelu:
      return "relu";
    case Op::kRelu6:
      return "relu6";
    case Op::kHardswish:
      return "hardswish";
    case Op::kHardsigmoid:
      return "hardsigmoid";
    case Op::kSilu:
      return "silu";
    case Op::kSigmoid:
      return "sigmoid";
    case Op::kGelu:
      return "gelu";
    case Op::kMaxPool:
      return "maxPool";
    case Op::kAvgPool:
      return "avgPool";
    case Op::kGlobalAvgPool:
      return "globalAvgPool";
    case Op::kAdd:
      return "add";
    case Op::kMul:
      return "mul";
    case Op::kConcat:
      return "concat";
    case Op::kScale:
      return "scale";
  }
  return "";
}

const char* border_name(Border border) {
  switch (border) {
    case Border::kSymmetric:
      return "symmetric";
    case Border::kTf:
      return "tf";
    case Border::kValid:
      return "valid";
    case Border::kEnd:
      return "end";
  }
  return "";
}

// Outputs of these may be changed in place: their backward does not read them.
bool may_overwrite(Op producer) {
  return producer == Op::kConv || producer == Op::kNorm || producer == Op::kAdd ||
         producer == Op::kMul || producer == Op::kScale || producer == Op::kConcat;
}

// ReLU's backward reads its output only; the others read their input, which training must keep.
at::Tensor activate(Op op, at::Tensor x, bool overwrite) {
  const bool free = overwrite && !at::GradMode::is_enabled();
  switch (op) {
    case Op::kRelu:
      return overwrite ? x.relu_() : x.relu();
    case Op::kRelu6:
      return overwrite ? at::relu6_(x) : at::relu6(x);
    case Op::kHardswish:
      return free ? at::hardswish_(x) : at::hardswish(x);
    case Op::kHardsigmoid:
      return free ? at::hardsigmoid_(x) : at::hardsigmoid(x);
    case Op::kSilu:
      return free ? at::silu_(x) : at::silu(x);
    case Op::kSigmoid:
      return free ? x.sigmoid_() : x.sigmoid();
    default:
      return at::gelu(x);
  }
}

// Whether node `relu` is a ReLU that only the max pool behind it reads.
bool pools_next(const Backbone& net, const Segment& segment, int relu) {
  return net.nodes[relu].op == Op::kRelu && relu + 1 < segment.last && net.readers[relu] == 1 &&
         net.nodes[relu + 1].op == Op::kMaxPool && net.nodes[relu + 1].inputs[0] == relu;
}

// What one call does from a convolution on: its norm, an addition, a ReLU, as far as they follow
// and nobody else reads what is between.
struct Chain {
  int norm = -1;
  int other = -1;  // the addition's other operand, to be overwritten
  bool relu = false;
  int last;  // the node whose value comes out
};

Chain chain_from(const Backbone& net, const Segment& segment, int conv, Phase phase, bool adds,
                 bool pools) {
  Chain chain{.last = conv};
  const auto next_is = [&](Op op) {
    const int next = chain.last + 1;
    if (next >= segment.last || net.readers[chain.last] != 1) return false;
    const Node& node = net.nodes[next];
    return node.op == op && std::ranges::count(node.inputs, chain.last) == 1;
  };
  if (next_is(Op::kNorm) && folds(net.nodes[conv + 1].norm, phase)) chain.norm = ++chain.last;
  if (adds && next_is(Op::kAdd)) {
    const Node& add = net.nodes[chain.last + 1];
    const int other = add.inputs[0] == chain.last ? add.inputs[1] : add.inputs[0];
    // Not the network's input, which is the caller's, and not a tap.
    const bool free = other >= 0 && net.last_reader[other] == chain.last + 1 &&
                      std::ranges::none_of(net.taps, [&](const Tap& t) { return t.node == other; });
    if (free) {
      chain.other = other;
      ++chain.last;
    }
  }
  if (next_is(Op::kRelu) && !(pools && pools_next(net, segment, chain.last + 1))) {
    chain.relu = true;
    ++chain.last;
  }
  return chain;
}

}  // namespace

const std::vector<std::string>& backbone_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const auto& [name, build] : registry()) list.push_back(name);
    return list;
  }();
  return names;
}

Backbone make_backbone(const ModelConfig& config, Builder& builder) {
  for (const auto& [name, build] : registry()) {
    if (name != config.backbone) continue;
    BackboneBuilder b(config, builder);
    build(b);
    return b.finish();
  }
  throw Error("CONFIG", "detector.model.backbone: no backbone is called " + config.backbone);
}

at::Tensor run_segment(const Backbone& net, const Segment& segment, const at::Tensor& x,
                       Phase phase, Taps& taps, KeptMaps* kept) {
  const int first = segment.first;
  std::vector<at::Tensor> values(segment.last - first);
  // Early release, after node i: what nobody reads any more.
  const auto finish = [&](int i) {
    for (int at = first; at < i; ++at) {
      if (net.last_reader[at] <= i && net.last_reader[at] > at) values[at - first].reset();
    }
    for (const Tap& tap : net.taps) {
      if (tap.node == i) taps[tap.level] = values[i - first];
    }
  };
  const auto norm_next = [&](int i) {
    return i + 1 < segment.last && net.nodes[i + 1].op == Op::kNorm && net.readers[i] == 1;
  };
  for (int i = first; i < segment.last; ++i) {
    const Node& node = net.nodes[i];
    const auto value = [&](int at) -> const at::Tensor& {
      return at < first ? x : values[at - first];
    };
    if (node.op == Op::kConv) {
      const at::Tensor& input = value(node.inputs[0]);
      const bool packs = phase == Phase::kEvaluate && packs_convolutions(input);
      const Chain chain =
          chain_from(net, segment, i, phase, /*adds=*/packs, takes_relu_max_pool(input));
      const Norm* norm = chain.norm < 0 ? nullptr : &net.nodes[chain.norm].norm;
      at::Tensor known;
      if (kept != nullptr && phase == Phase::kRecompute) {
        if (const auto found = kept->find(chain.last); found != kept->end()) known = found->second;
      }
      at::Tensor& y = values[chain.last - first];
      if (chain.other >= 0)
        y = packed_convolve(node.conv, norm, input, chain.relu, value(chain.other));
      else if (norm != nullptr)
        y = convolve(node.conv, *norm, input, phase, chain.relu, known);
      else
        y = convolve(node.conv, input, phase, chain.relu, known);
      // Only what nobody overwrites behind it.
      if (kept != nullptr && phase != Phase::kRecompute && (chain.relu || norm_next(chain.last)))
        kept->emplace(chain.last, y);
      finish(chain.last);
      i = chain.last;
      continue;
    }
    const auto overwritable = [&](int at) {
      return at >= first && net.readers[at] == 1 && may_overwrite(net.nodes[at].op);
    };
    const int from = node.inputs[0];
    if (pools_next(net, segment, i) && takes_relu_max_pool(value(from))) {
      ++i;
      values[i - first] = relu_max_pool(value(from), net.nodes[i].window);
      finish(i);
      continue;
    }
    at::Tensor y;
    switch (node.op) {
      case Op::kNorm:
        y = normalise(node.norm, value(from), phase);
        break;
      case Op::kLayerNorm:
        y = layer_norm(node.norm, value(from));
        break;
      case Op::kMaxPool:
        y = max_pool(value(from), node.window);
        break;
      case Op::kAvgPool:
        y = average_pool(value(from), node.window);
        break;
      case Op::kGlobalAvgPool:
        y = value(from).mean({2, 3}, true);
        break;
      case Op::kAdd: {
        at::Tensor a = value(from);
        const at::Tensor& b = value(node.inputs[1]);
        const bool relu = i + 1 < segment.last && net.readers[i] == 1 &&
                          net.nodes[i + 1].op == Op::kRelu && net.nodes[i + 1].inputs[0] == i;
        if (relu) {
          y = add_relu(a, b, overwritable(from));
          ++i;
        } else {
          y = overwritable(from) ? a.add_(b) : a.add(b);
        }
        break;
      }
      case Op::kMul:
        y = value(from).mul(value(node.inputs[1]));
        break;
      case Op::kConcat:
        y = at::cat({value(from), value(node.inputs[1])}, 1);
        break;
      case Op::kScale:
        y = value(from).mul(node.scale.to(x.scalar_type()).view({1, -1, 1, 1}));
        break;
      default:
        y = activate(node.op, value(from), overwritable(from));
    }
    values[i - first] = std::move(y);
    finish(i);
  }
  if (kept != nullptr && phase != Phase::kRecompute) {
    std::erase_if(*kept, [&](const auto& item) {
      return item.first >= first && 2 * item.second.numel() > values.back().numel();
    });
  }
  return values.back();
}

std::array<std::array<int64_t, 2>, 6> tap_sizes(const Backbone& net,
                                                const std::array<int64_t, 2>& input) {
  using Size = std::array<int64_t, 2>;
  std::vector<Size> sizes;
  const auto of = [&](int at) { return at < 0 ? input : sizes[at]; };
  for (const Node& node : net.nodes) {
    Size size = of(node.inputs[0]);
    switch (node.op) {
      case Op::kConv:
      case Op::kMaxPool:
      case Op::kAvgPool:
        size = {node.window.output(size[0]), node.window.output(size[1])};
        break;
      case Op::kGlobalAvgPool:
        size = {1, 1};
        break;
      default:
        break;
    }
    sizes.push_back(size);
  }
  std::array<Size, 6> result{};
  for (const Tap& tap : net.taps) result[tap.level] = sizes[tap.node];
  return result;
}

std::string describe_backbone(const ModelConfig& config) {
  using Json = nlohmann::ordered_json;
  ParameterList list;
  Builder builder(list, at::Generator(), at::Device(at::kMeta));
  const Backbone net = make_backbone(config, builder);
  Json nodes = Json::array();
  for (const Node& node : net.nodes) {
    Json item{{"name", node.name},
              {"op", op_name(node)},
              {"inputs", node.inputs},
              {"stage", node.stage},
              {"channels", node.channels}};
    const bool conv = node.op == Op::kConv;
    if (conv || node.op == Op::kMaxPool || node.op == Op::kAvgPool) {
      item["kernel"] = node.window.kernel;
      item["stride"] = node.window.stride;
      item["padding"] = border_name(node.window.border);
    }
    if (conv) {
      item["groups"] = node.conv.groups;
      item["bias"] = node.conv.bias.defined();
    }
    if (node.op == Op::kNorm || node.op == Op::kLayerNorm) item["eps"] = node.norm.eps;
    nodes.push_back(std::move(item));
  }
  Json taps = Json::array();
  for (const Tap& tap : net.taps) {
    taps.push_back({{"level", tap.level},
                    {"node", tap.node},
                    {"channels", tap.channels},
                    {"stride", 1 << tap.level}});
  }
  return Json{{"nodes", nodes}, {"taps", taps}}.dump();
}

int BackboneBuilder::push(Node node) {
  node.stage = stage_;
  nodes_.push_back(std::move(node));
  return static_cast<int>(nodes_.size()) - 1;
}

void BackboneBuilder::cut() {
  const int first = segments_.empty() ? 0 : segments_.back().last;
  segments_.push_back({stage_, first, static_cast<int>(nodes_.size()), first - 1});
}

int BackboneBuilder::conv(const std::string& name, int input, int out, int kernel,
                          const ConvOptions& o) {
  const Border where = o.border.value_or(mammo::border(config.padding));
  Node node{name, Op::kConv, {input}, 0, out, {kernel, o.stride, where}, {}, {}, {}};
  node.conv = builder_.conv(
      name, stage_, {channels(input), out, kernel, o.stride, o.bias, where, o.groups}, o.init);
  return push(std::move(node));
}

int BackboneBuilder::norm(const std::string& name, int input, double momentum) {
  Node node{name, Op::kNorm, {input}, 0, channels(input), {1}, {}, {}, {}};
  node.norm = builder_.norm(name, stage_, node.channels, config.norm, config.norm_eps);
  node.norm.momentum = momentum;
  return push(std::move(node));
}

int BackboneBuilder::layer_norm(const std::string& name, int input, double eps) {
  Node node{name, Op::kLayerNorm, {input}, 0, channels(input), {1}, {}, {}, {}};
  node.norm = builder_.layer_norm(name, stage_, node.channels, eps);
  return push(std::move(node));
}

int BackboneBuilder::apply(Op op, int input) {
  Node node{"", op, {input}, 0, channels(input), {1}, {}, {}, {}};
  node.name = nodes_[input].name + "." + op_name(node);
  return push(std::move(node));
}

int BackboneBuilder::pool(Op op, const std::string& name, int input, const SlidingWindow& window) {
  return push({name, op, {input}, 0, channels(input), window, {}, {}, {}});
}

int BackboneBuilder::add(const std::string& name, int a, int b) {
  return push({name, Op::kAdd, {a, b}, 0, channels(a), {1}, {}, {}, {}});
}

int BackboneBuilder::mul(const std::string& name, int a, int b) {
  return push({name, Op::kMul, {a, b}, 0, channels(a), {1}, {}, {}, {}});
}

int BackboneBuilder::concat(const std::string& name, int a, int b) {
  return push({name, Op::kConcat, {a, b}, 0, channels(a) + channels(b), {1}, {}, {}, {}});
}

int BackboneBuilder::scale(const std::string& name, int input, double value) {
  Node node{name, Op::kScale, {input}, 0, channels(input), {1}, {}, {}, {}};
  node.scale = builder_.scale(name, stage_, node.channels, value);
  return push(std::move(node));
}

int BackboneBuilder::squeeze_excite(const std::string& name, int node, int squeezed, Op activation,
                                    Op gate) {
  const ConvOptions options{.bias = true, .border = Border::kValid};
  int at = apply(Op::kGlobalAvgPool, node);
  at = apply(activation, conv(name + ".fc1", at, squeezed, 1, options));
  at = apply(gate, conv(name + ".fc2", at, channels(node), 1, options));
  return mul(name, node, at);
}

Backbone BackboneBuilder::finish() {
  if (segments_.empty() || segments_.back().last != static_cast<int>(nodes_.size())) cut();
  const size_t count = nodes_.size();
  Backbone net{std::move(nodes_), std::move(segments_), std::move(taps_), {}, {}};
  net.readers.assign(count, 0);
  for (size_t i = 0; i < count; ++i) net.last_reader.push_back(static_cast<int>(i));
  for (size_t i = 0; i < count; ++i) {
    for (int from : net.nodes[i].inputs) {
      if (from < 0) continue;
      ++net.readers[from];
      net.last_reader[from] = static_cast<int>(i);
    }
  }
  for (const Tap& tap : net.taps) ++net.readers[tap.node];
  for (const Segment& segment : net.segments) {
    for (int i = segment.first; i < segment.last; ++i) {
      for (int from : net.nodes[i].inputs) {
        TORCH_INTERNAL_ASSERT(from >= segment.first || from == segment.input, net.nodes[i].name,
                              " reads over the border of its segment");
      }
    }
  }
  return net;
}

}  // namespace mammo
