// ReLU and max pooling: memory, threads and the autograd node.
#include "core/ops/max_pool.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/ops/cpu/max_pool.h"

namespace mammo {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

cpu::PoolShape shape_of(int64_t rows, int64_t cols, const PoolWindow& w) {
  return {rows, cols, w.output[0], w.output[1], w.kernel, w.stride, w.before[0], w.before[1]};
}

// f(first, last) on parts of the planes, f32 and f64.
template <class F>
void for_planes(const at::Tensor& x, const F& f) {
  at::parallel_for(0, x.size(0) * x.size(1), 1, [&](int64_t first, int64_t last) {
    if (x.scalar_type() == at::kFloat)
      f(float{}, first, last);
    else
      f(double{}, first, last);
  });
}

struct PoolNode : torch::autograd::Function<PoolNode> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const PoolWindow& w) {
    TORCH_INTERNAL_ASSERT(w.kernel <= 15, "a place in a window is a byte");
    const at::Tensor plain = x.contiguous();
    const std::array<int64_t, 4> size{x.size(0), x.size(1), w.output[0], w.output[1]};
    at::Tensor y = at::empty(size, x.options());
    at::Tensor place = at::empty(size, x.options().dtype(at::kByte));
    const cpu::PoolShape shape = shape_of(x.size(2), x.size(3), w);
    const int64_t in = shape.rows * shape.cols, out = shape.out_rows * shape.out_cols;
    for_planes(plain, [&]<class T>(T, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        cpu::relu_max_pool(shape, plain.const_data_ptr<T>() + i * in, y.data_ptr<T>() + i * out,
                           place.data_ptr<uint8_t>() + i * out);
      }
    });
    context->save_for_backward({y, place});
    context->saved_data["shape"] =
        std::vector<int64_t>{shape.rows, shape.cols, w.kernel, w.stride, w.before[0], w.before[1]};
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list& upstream) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &y = saved[0], &place = saved[1], dy = upstream[0].contiguous();
    const std::vector<int64_t> s = context->saved_data["shape"].toIntVector();
    const cpu::PoolShape shape{
        s[0], s[1], y.size(2), y.size(3), static_cast<int>(s[2]), static_cast<int>(s[3]),
        s[4], s[5]};
    at::Tensor dx = at::empty({y.size(0), y.size(1), shape.rows, shape.cols}, y.options());
    const int64_t in = shape.rows * shape.cols, out = shape.out_rows * shape.out_cols;
    for_planes(y, [&]<class T>(T, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        cpu::relu_max_pool_backward(shape, y.const_data_ptr<T>() + i * out,
                                    place.const_data_ptr<uint8_t>() + i * out,
                                    dy.const_data_ptr<T>() + i * out, dx.data_ptr<T>() + i * in);
      }
    });
    return {dx, at::Tensor()};
  }
};

}  // namespace

bool relu_max_pool_takes(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble);
}

at::Tensor relu_max_pool(const at::Tensor& x, const PoolWindow& window) {
  return PoolNode::apply(x, window);
}

}  // namespace mammo
