// Box <-> regression deltas. fp32 (or double in tests); never autocast. Method: retinanet spec 3.3.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/config.h"

namespace mammo {

/// boxes, anchors [n,4] -> deltas [n,4]
at::Tensor encode_boxes(const at::Tensor& boxes, const at::Tensor& anchors,
                        const CoderConfig& config);

/// deltas, anchors [n,4] -> boxes [n,4]; differentiable in deltas.
at::Tensor decode_boxes(const at::Tensor& deltas, const at::Tensor& anchors,
                        const CoderConfig& config);

}  // namespace mammo
