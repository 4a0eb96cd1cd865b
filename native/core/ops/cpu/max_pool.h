// ReLU and max pooling of planes on the CPU.
#pragma once

#include <cstdint>

namespace mammo::cpu {

struct PoolShape {
  int64_t rows, cols;          // of a plane
  int64_t out_rows, out_cols;  // of its result
  int kernel, stride;          // kernel <= 15
  int64_t top, left;           // rows and columns of the first window that lie outside
};

/// One plane: y [out_rows, out_cols], and the place of each largest value in its window, row times
/// kernel plus column.
void relu_max_pool(const PoolShape& shape, const float* x, float* y, uint8_t* place);
void relu_max_pool(const PoolShape& shape, const double* x, double* y, uint8_t* place);

/// The gradient of the plane, written whole: dx [rows, cols].
void relu_max_pool_backward(const PoolShape& shape, const float* y, const uint8_t* place,
                            const float* dy, float* dx);
void relu_max_pool_backward(const PoolShape& shape, const double* y, const uint8_t* place,
                            const double* dy, double* dx);

}  // namespace mammo::cpu
