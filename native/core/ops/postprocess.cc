// Detections from head outputs. Candidates are chosen where the outputs are (CPU loop, or sorts on
// the device), decoded and clipped there with the shared coder, and suppressed on the CPU: a few
// thousand boxes that must come to the host anyway, and one implementation for the order of ties.
// Method: retinanet spec 2.1.
#include "core/ops/postprocess.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "core/ops/coder.h"
#include "core/ops/cpu/nms.h"
#include "core/ops/cpu/postprocess.h"

namespace mammo {
namespace {

// Rows of one image, on the device of the outputs: flat index anchor * K + class, score.
struct Selected {
  at::Tensor index, scores;
};

Selected select_cpu(const at::Tensor& logits, const AnchorGrid& grid, const PostConfig& config) {
  const std::vector<cpu::Candidate> found = cpu::select_candidates(
      logits.data_ptr<float>(), logits.size(1), grid, config.score_threshold,
      config.topk_per_level ? *config.topk_per_level : -1, config.best_class_only);
  const auto count = static_cast<int64_t>(found.size());
  Selected s{at::empty({count}, at::kLong), at::empty({count}, at::kFloat)};
  for (int64_t i = 0; i < count; ++i) {
    s.index.data_ptr<int64_t>()[i] = found[i].index;
    s.scores.data_ptr<float>()[i] = found[i].score;
  }
  return s;
}

// The same with device operators. The sort is stable, so equal logits keep index order; only the
// final threshold, whose result has an unknown length, makes the host wait.
Selected select_device(const at::Tensor& logits, const AnchorGrid& grid, const PostConfig& config) {
  const int64_t classes = logits.size(1);
  std::vector<at::Tensor> values, indices;
  for (const AnchorLevel& level : grid.levels) {
    const int64_t anchors = level.rows * level.cols * grid.per_cell;
    at::Tensor value = logits.narrow(0, level.first, anchors), index;
    if (config.best_class_only) {
      const auto [best, label] = value.max(1);
      value = best;
      index = at::arange(anchors, label.options()) * classes + label;
    } else {
      value = value.flatten();
    }
    if (config.topk_per_level && *config.topk_per_level < value.numel()) {
      const auto [sorted, order] = at::sort(value, /*stable=*/true, 0, /*descending=*/true);
      value = sorted.narrow(0, 0, *config.topk_per_level);
      const at::Tensor rows = order.narrow(0, 0, *config.topk_per_level);
      index = index.defined() ? index.index_select(0, rows) : rows;
    } else if (!index.defined()) {
      index = at::arange(value.numel(), value.options().dtype(at::kLong));
    }
    values.push_back(value);
    indices.push_back(index + level.first * classes);
  }
  const at::Tensor scores = at::sigmoid(at::cat(values));
  const at::Tensor rows = at::nonzero(scores > config.score_threshold).flatten();
  return {at::cat(indices).index_select(0, rows), scores.index_select(0, rows)};
}

// Anchors [n,4] of anchor numbers [n], computed on the host from the grid.
at::Tensor anchors_of(const AnchorGrid& grid, const at::Tensor& numbers) {
  const int64_t count = numbers.size(0);
  at::Tensor rows = at::empty({count, 4}, at::kFloat);
  float* out = rows.data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t number = numbers.data_ptr<int64_t>()[i];
    size_t l = grid.levels.size() - 1;
    while (number < grid.levels[l].first) --l;
    const AnchorLevel& level = grid.levels[l];
    const int64_t cell = (number - level.first) / grid.per_cell;
    const auto& base = grid.base[l][(number - level.first) % grid.per_cell];
    const float dx = static_cast<float>(cell % level.cols) * level.stride_x;
    const float dy = static_cast<float>(cell / level.cols) * level.stride_y;
    for (int j = 0; j < 4; ++j) out[4 * i + j] = base[j] + (j % 2 == 0 ? dx : dy);
  }
  return rows;
}

at::Tensor clip(const at::Tensor& boxes, ClipRule rule, const std::array<int64_t, 2>& size,
                const std::array<int64_t, 2>& canvas) {
  if (rule == ClipRule::kNone) return boxes;
  const bool image = rule == ClipRule::kImage;
  const auto width = static_cast<double>(image ? size[1] : canvas[1] - 1);
  const auto height = static_cast<double>(image ? size[0] : canvas[0] - 1);
  at::Tensor clipped = boxes.clone();
  clipped.slice(1, 0, 4, 2).clamp_(0, width);
  clipped.slice(1, 1, 4, 2).clamp_(0, height);
  return clipped;
}

ImageDetections detect_image(const at::Tensor& logits, const at::Tensor& deltas,
                             const AnchorGrid& grid, const std::array<int64_t, 2>& size,
                             const std::array<int64_t, 2>& canvas, const CoderConfig& coder,
                             const PostConfig& config) {
  const int64_t classes = logits.size(1);
  const Selected s =
      logits.is_cpu() ? select_cpu(logits, grid, config) : select_device(logits, grid, config);
  const at::Tensor anchor = s.index.floor_divide(classes);
  const at::Tensor chosen = deltas.index_select(0, anchor).to(at::kCPU, at::kFloat);
  const at::Tensor index = s.index.cpu(), scores = s.scores.cpu();
  const at::Tensor decoded = decode_boxes(chosen, anchors_of(grid, anchor.cpu()), coder);
  if (decoded.isnan().any().item<bool>()) {
    throw Error("NON_FINITE", "postprocess: box deltas of selected anchors are not finite");
  }
  const at::Tensor boxes = clip(decoded, config.clip, size, canvas).contiguous();

  // Candidates in the order of their flat index, so that equal scores keep it.
  std::vector<int64_t> order;
  const auto* flat = index.data_ptr<int64_t>();
  const float* b = boxes.data_ptr<float>();
  for (int64_t i = 0; i < index.size(0); ++i) {
    const float width = b[4 * i + 2] - b[4 * i], height = b[4 * i + 3] - b[4 * i + 1];
    if (width >= config.min_size && height >= config.min_size) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return flat[x] < flat[y]; });
  const auto count = static_cast<int64_t>(order.size());
  std::vector<float> sorted_boxes(4 * count), sorted_scores(count);
  std::vector<int64_t> labels(count);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(b + 4 * order[i], 4, sorted_boxes.data() + 4 * i);
    sorted_scores[i] = scores.data_ptr<float>()[order[i]];
    labels[i] = flat[order[i]] % classes;
  }
  const bool one_class = config.agnostic || config.best_class_only;
  const std::vector<int64_t> kept =
      cpu::nms(sorted_boxes.data(), sorted_scores.data(), one_class ? nullptr : labels.data(),
               count, static_cast<double>(config.nms_iou), config.max_detections);

  const auto found = static_cast<int64_t>(kept.size());
  ImageDetections d{at::empty({found, 4}, at::kFloat), at::empty({found}, at::kFloat),
                    at::empty({found}, at::kInt)};
  for (int64_t i = 0; i < found; ++i) {
    std::copy_n(sorted_boxes.data() + 4 * kept[i], 4, d.boxes.data_ptr<float>() + 4 * i);
    d.scores.data_ptr<float>()[i] = sorted_scores[kept[i]];
    d.labels.data_ptr<int32_t>()[i] = static_cast<int32_t>(labels[kept[i]]);
  }
  return d;
}

}  // namespace

std::vector<ImageDetections> postprocess(const at::Tensor& logits, const at::Tensor& deltas,
                                         const AnchorGrid& grid,
                                         const std::vector<std::array<int64_t, 2>>& sizes,
                                         const std::array<int64_t, 2>& canvas,
                                         const CoderConfig& coder, const PostConfig& config) {
  const auto images = static_cast<int64_t>(sizes.size());
  if (logits.dim() != 3 || logits.size(0) != images || logits.size(1) != grid.total ||
      logits.size(2) < 1) {
    throw Error("ARGUMENT", "postprocess: expected logits [" + std::to_string(images) + ", " +
                                std::to_string(grid.total) + ", K]");
  }
  if (deltas.dim() != 3 || deltas.size(0) != images || deltas.size(1) != grid.total ||
      deltas.size(2) != 4 || deltas.device() != logits.device()) {
    throw Error("ARGUMENT", "postprocess: expected deltas [n, total, 4] beside the logits");
  }
  const at::NoGradGuard no_grad;
  const at::Tensor values = logits.detach().to(at::kFloat).contiguous();
  if (!values.is_cpu() && !at::isfinite(values).all().item<bool>()) {
    throw Error("NON_FINITE", "postprocess: logits are not finite");
  }
  std::vector<ImageDetections> result;
  for (int64_t i = 0; i < images; ++i) {
    result.push_back(
        detect_image(values[i], deltas.detach()[i], grid, sizes[i], canvas, coder, config));
  }
  return result;
}

}  // namespace mammo
