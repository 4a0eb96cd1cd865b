// Calls of LibTorch's fused oneDNN operators, found by name: they have no C++ header.
#include "core/model/packed_conv.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>
#include <utility>

#include "core/model/layers.h"
#include "core/ops/winograd.h"
#include "core/switches.h"

namespace mammo {
namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;
using Text = std::optional<std::string_view>;
using OptionalTensor = std::optional<at::Tensor>;

using Reorder = at::Tensor(const at::Tensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef,
                           int64_t, at::OptionalIntArrayRef);
using Pointwise = at::Tensor(const at::Tensor&, const at::Tensor&, const OptionalTensor&,
                             at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                             std::string_view, Scalars, Text);
using PointwiseAdd = at::Tensor&(at::Tensor&, const at::Tensor&, const at::Tensor&,
                                 const OptionalTensor&, at::IntArrayRef, at::IntArrayRef,
                                 at::IntArrayRef, int64_t, std::string_view,
                                 std::optional<at::Scalar>, Text, Scalars, Text);

struct Operators {
  c10::TypedOperatorHandle<Reorder> reorder;
  c10::TypedOperatorHandle<Pointwise> pointwise;
  c10::TypedOperatorHandle<PointwiseAdd> pointwise_add;
};

// Nothing where LibTorch was built without oneDNN.
const std::optional<Operators>& operators() {
  static const std::optional<Operators> found = []() -> std::optional<Operators> {
    auto& dispatcher = c10::Dispatcher::singleton();
    const auto reorder = dispatcher.findSchema({"mkldnn::_reorder_convolution_weight", ""});
    const auto pointwise = dispatcher.findSchema({"mkldnn::_convolution_pointwise", ""});
    const auto add = dispatcher.findSchema({"mkldnn::_convolution_pointwise_", "binary"});
    if (!reorder || !pointwise || !add) return std::nullopt;
    return Operators{reorder->typed<Reorder>(), pointwise->typed<Pointwise>(),
                     add->typed<PointwiseAdd>()};
  }();
  return found;
}

// Larger transforms are made anew for every call: they belong to small maps of many channels, cost
// a hundredth of the whole pass and would be the largest thing in memory after it.
constexpr int64_t kKept = 1 << 20;

// Every way to change a parameter changes one of these: the optimiser and the averages of weights
// bump the version by hand.
std::vector<uint64_t> sources(const Conv& conv, const Norm* norm) {
  std::vector<uint64_t> list;
  const auto add = [&](const at::Tensor& t) {
    list.push_back(t.defined() ? reinterpret_cast<uint64_t>(t.const_data_ptr()) : 0);
    list.push_back(t.defined() ? t._version() : 0);
  };
  add(conv.weight);
  add(conv.bias);
  if (norm != nullptr) {
    for (const at::Tensor& t : {norm->weight, norm->bias, norm->mean, norm->variance}) add(t);
  }
  return list;
}

}  // namespace

bool packs_convolutions(const at::Tensor& x) {
#if defined(__x86_64__)
  return switches().packed_conv && !at::GradMode::is_enabled() && x.is_cpu() &&
         x.scalar_type() == at::kFloat && operators().has_value();
#else
  return false;
#endif
}

at::Tensor packed_convolve(const Conv& conv, const Norm* norm, const at::Tensor& x, bool relu,
                           at::Tensor sum) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const auto [padded, around] = pad_for(conv, x);
  const at::Tensor input = padded.contiguous(at::MemoryFormat::ChannelsLast);
  const std::array<int64_t, 2> padding{around, around}, stride{conv.stride, conv.stride},
      dilation{1, 1};
  PackedConv& packed = *conv.packed;
  std::vector<uint64_t> now = sources(conv, norm);
  const bool changed = packed.sources != now;
  const bool winograd = takes_winograd(conv, around, input);
  at::Tensor& kept = winograd ? packed.winograd : packed.weight;
  at::Tensor form = kept;
  if (changed || !form.defined()) {
    const FoldedConv folded =
        norm == nullptr ? FoldedConv{conv.weight, conv.bias} : fold(conv, *norm);
    form = winograd ? winograd_transform(folded.weight)
                    : operators()->reorder.call(
                          folded.weight.detach().contiguous(at::MemoryFormat::ChannelsLast),
                          padding, stride, dilation, conv.groups, input.sizes());
    if (changed) packed = {{}, {}, folded.bias, std::move(now)};
    if (!winograd || form.numel() <= kKept) kept = form;
  }
  if (sum.defined()) sum = sum.contiguous(at::MemoryFormat::ChannelsLast);
  if (winograd) return winograd_convolve(input, conv.weight, packed.bias, relu, sum, form);
  const OptionalTensor bias = packed.bias.defined() ? OptionalTensor(packed.bias) : std::nullopt;
  if (!sum.defined()) {
    return operators()->pointwise.call(input, packed.weight, bias, padding, stride, dilation,
                                       conv.groups, relu ? "relu" : "none", Scalars(), "");
  }
  operators()->pointwise_add.call(sum, input, packed.weight, bias, padding, stride, dilation,
                                  conv.groups, "add", std::nullopt, relu ? Text("relu") : Text(),
                                  Scalars(), relu ? Text("") : Text());
  return sum;
}

}  // namespace mammo
