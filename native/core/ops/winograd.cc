// Checks and memory around the kernels.
#include "core/ops/winograd.h"

#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/ops/cpu/winograd.h"

namespace mammo {
namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

at::Tensor channels_last(const at::Tensor& t) { return t.contiguous(kLast); }

// y, channels-last, in the memory format of x.
at::Tensor like(const at::Tensor& x, const at::Tensor& y) {
  return x.is_contiguous(kLast) ? y : y.contiguous();
}

const float* data(const at::Tensor& t) {
  return t.defined() && t.numel() > 0 ? t.const_data_ptr<float>() : nullptr;
}

cpu::WinogradShape shape_of(const at::Tensor& x, int64_t out) {
  return {x.size(0), x.size(2), x.size(3), x.size(1), out};
}

at::Tensor transform(const at::Tensor& weight, bool turned) {
  const int64_t out = weight.size(0), in = weight.size(1);
  const at::Tensor plain = weight.detach().contiguous();
  at::Tensor result =
      at::empty({turned ? cpu::winograd_weight_size(out, in) : cpu::winograd_weight_size(in, out)});
  cpu::winograd_weights(data(plain), in, out, turned, result.data_ptr<float>());
  return result;
}

// x and gate channels-last; the result too.
at::Tensor run(const at::Tensor& x, const at::Tensor& transformed, int64_t out,
               const cpu::WinogradExtras& extras, at::Tensor y) {
  const cpu::WinogradShape shape = shape_of(x, out);
  if (!y.defined()) y = at::empty({shape.images, out, shape.rows, shape.cols}, x.options(), kLast);
  const int threads = at::get_num_threads();
  at::Tensor scratch = at::empty({cpu::winograd_scratch_size(shape, threads)});
  cpu::winograd_convolve(shape, data(x), data(transformed), extras, y.data_ptr<float>(),
                         scratch.data_ptr<float>(), threads);
  return y;
}

}  // namespace

bool winograd_takes(const at::Tensor& x, const at::Tensor& weight) {
  // Fewer tiles do not pay for the transform of the weights.
  constexpr int64_t kTiles = 64;
  return x.is_cpu() && x.scalar_type() == at::kFloat && cpu::winograd_runs() &&
         weight.size(0) % 16 == 0 && weight.size(1) % 16 == 0 &&
         x.size(0) * ((x.size(2) + 1) / 2) * ((x.size(3) + 1) / 2) >= kTiles;
}

WinogradGradients winograd_backward(const at::Tensor& x, const at::Tensor& weight,
                                    const at::Tensor& y, at::Tensor dy,
                                    std::array<bool, 3> wanted) {
  dy = channels_last(dy);
  const at::Tensor gate = y.defined() ? channels_last(y) : y;
  WinogradGradients g;
  // The weights first: of the largest maps there are never more than the gradient and one copy.
  if (wanted[1]) {
    const cpu::WinogradShape shape = shape_of(x, weight.size(0));
    g.weight = at::empty(weight.sizes(), weight.options());
    if (wanted[2]) g.bias = at::empty({weight.size(0)}, weight.options());
    at::Tensor scratch = at::empty({cpu::winograd_gradient_scratch_size(shape)});
    const at::Tensor input = channels_last(x);
    cpu::winograd_weight_gradient(
        shape, data(input), data(dy), data(gate), g.weight.data_ptr<float>(),
        wanted[2] ? g.bias.data_ptr<float>() : nullptr, scratch.data_ptr<float>());
  } else if (wanted[2]) {
    g.bias = (gate.defined() ? dy * (gate > 0) : dy).sum({0, 2, 3});
  }
  if (wanted[0])
    g.x = run(dy, transform(weight, true), x.size(1), {data(gate), nullptr, nullptr, false}, {});
  return g;
}

at::Tensor winograd_transform(const at::Tensor& weight) { return transform(weight, false); }

at::Tensor winograd_convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             bool relu, const at::Tensor& sum, const at::Tensor& transformed) {
  if (weight.dim() != 4 || weight.size(2) != 3 || weight.size(3) != 3 || x.dim() != 4 ||
      x.size(1) != weight.size(1)) {
    throw Error("INTERNAL", "winograd: expected x [n, in, h, w] and weights [out, in, 3, 3]");
  }
  return like(x,
              run(channels_last(x), transformed.defined() ? transformed : transform(weight, false),
                  weight.size(0), {nullptr, data(bias), data(sum), relu}, sum));
}

}  // namespace mammo
