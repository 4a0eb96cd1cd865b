// Loss assembly.
#include "core/loss.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <span>

#include "core/ops/box_loss.h"
#include "core/ops/focal_loss.h"
#include "core/switches.h"
#include "core/upload.h"

namespace mammo {
namespace {

// A window of cells, y1 and x1 exclusive.
struct CellWindow {
  int64_t y0, x0, y1, x1;
};

// Cells first..last along one side, with `radius` more on each, grown to one of few lengths (16,
// 24, 32, 48, 64...): the convolution library prepares itself anew for every shape it meets.
std::pair<int64_t, int64_t> grow(int64_t first, int64_t last, int radius, int64_t size) {
  const int64_t needed = last - first + 1 + 2 * radius;
  int64_t length = 16;
  while (length < needed) length = length % 3 == 0 ? length / 3 * 4 : length / 2 * 3;
  length = std::min(length, size);
  const int64_t start = first - radius - (length - needed) / 2;
  const int64_t begin = std::clamp<int64_t>(start, 0, size - length);
  return {begin, begin + length};
}

// The cells that the box tower must compute so that all given positives are exact: beyond the
// radius nothing reaches them, and at the map's own border the zero padding is the true one.
CellWindow window_around(std::span<const Positive> positives, const AnchorLevel& level,
                         int per_cell, int radius) {
  int64_t top = level.rows, left = level.cols, bottom = -1, right = -1;
  for (const Positive& p : positives) {
    const int64_t cell = p.anchor / per_cell;
    const int64_t y = cell / level.cols, x = cell % level.cols;
    top = std::min(top, y);
    left = std::min(left, x);
    bottom = std::max(bottom, y);
    right = std::max(right, x);
  }
  const auto [y0, y1] = grow(top, bottom, radius, level.rows);
  const auto [x0, x1] = grow(left, right, radius, level.cols);
  return {y0, x0, y1, x1};
}

// Loss of the given positives, whose deltas stand at `rows` of the tower's output for `map`: [p]
// float.
at::Tensor positive_losses(const LossContext& c, size_t level, const at::Tensor& map,
                           std::span<const Positive> positives, const std::vector<int64_t>& rows) {
  const AnchorLevel& grid = c.grid.levels[level];
  const auto device = map.device();
  const int64_t count = static_cast<int64_t>(positives.size());
  at::Tensor anchors = at::empty({count, 4});
  at::Tensor index = at::empty({2, count}, at::kLong);  // row of the deltas, box
  auto* anchor_rows = anchors.data_ptr<float>();
  auto index_rows = index.accessor<int64_t, 2>();
  for (int64_t i = 0; i < count; ++i) {
    const Positive& p = positives[i];
    const int64_t cell = p.anchor / c.grid.per_cell;
    const auto& base = c.grid.base[level][p.anchor % c.grid.per_cell];
    const float dx = static_cast<float>(cell % grid.cols) * grid.stride_x;
    const float dy = static_cast<float>(cell / grid.cols) * grid.stride_y;
    for (int j = 0; j < 4; ++j) anchor_rows[4 * i + j] = base[j] + (j % 2 == 0 ? dx : dy);
    index_rows[0][i] = rows[i];
    index_rows[1][i] = p.box;
  }
  index = upload(index, device);
  const at::Tensor deltas = tower_forward(c.heads.box, map).view({-1, 4}).index_select(0, index[0]);
  return box_loss(deltas, upload(anchors, device), c.targets.boxes.index_select(0, index[1]),
                  c.config.coder, c.config.loss);
}

// The box loss of positives of one part of the map; their weights; the gradient added to
// `gradient`.
void add_box_part(const LossContext& c, size_t level, const at::Tensor& part,
                  std::span<const Positive> positives, const std::vector<int64_t>& rows,
                  at::Tensor gradient, bool train, LossSums& sums, Timer& timer, Roots* joint) {
  at::Tensor leaf = joint ? part : part.detach().requires_grad_(train);
  at::Tensor losses;
  {
    c10::AutoGradMode grad(train);
    losses = positive_losses(c, level, leaf, positives, rows);
  }
  at::Tensor images = at::empty({static_cast<int64_t>(positives.size())}, at::kLong);
  for (size_t i = 0; i < positives.size(); ++i) images.data_ptr<int64_t>()[i] = positives[i].image;
  images = upload(images, part.device());
  sums.box.index_add_(0, images, losses.detach().to(at::kDouble));
  timer.mark("box");
  if (!train) return;
  const at::Tensor weights =
      (c.weights.index_select(0, images) * c.config.loss.box_weight).to(losses.scalar_type());
  if (joint != nullptr) {
    joint->add(losses, weights);
    return;
  }
  torch::autograd::backward({losses}, {weights});
  gradient.add_(leaf.grad());
  timer.mark("boxBackward");
}

void add_box_loss(const LossContext& c, size_t level, const at::Tensor& map, at::Tensor gradient,
                  bool train, LossSums& sums, Timer& timer, Roots* joint) {
  const std::vector<Positive>& all = c.targets.positives[level];
  if (all.empty()) return;  // the sum is 0 and so is its gradient
  const AnchorLevel& grid = c.grid.levels[level];
  const int64_t per_cell = c.grid.per_cell;
  std::vector<int64_t> rows;
  if (!c.heads.box.local() || !switches().sparse_box) {
    for (const Positive& p : all)
      rows.push_back(p.image * grid.rows * grid.cols * per_cell + p.anchor);
    add_box_part(c, level, map, all, rows, gradient, train, sums, timer, joint);
    return;
  }
  for (auto first = all.begin(); first != all.end();) {
    const auto last =
        std::find_if(first, all.end(), [&](const Positive& p) { return p.image != first->image; });
    const std::span<const Positive> positives(first, last);
    const CellWindow w = window_around(positives, grid, c.grid.per_cell, c.heads.box.radius());
    const auto crop = [&](const at::Tensor& t) {
      return t.narrow(0, first->image, 1).narrow(2, w.y0, w.y1 - w.y0).narrow(3, w.x0, w.x1 - w.x0);
    };
    rows.clear();
    for (const Positive& p : positives) {
      const int64_t cell = p.anchor / per_cell;
      rows.push_back(((cell / grid.cols - w.y0) * (w.x1 - w.x0) + cell % grid.cols - w.x0) *
                         per_cell +
                     p.anchor % per_cell);
    }
    add_box_part(c, level, crop(map).contiguous(map.suggest_memory_format()), positives, rows,
                 gradient.defined() ? crop(gradient) : gradient, train, sums, timer, joint);
    first = last;
  }
}

// Rows whose logits are computed at once, so that a strip's maps stay small. A strip is not worth
// its borders when it has few rows.
int64_t strip_rows(const LossContext& c, const at::Tensor& map, bool strips) {
  const int64_t rows = map.size(2);
  if (!strips || !c.heads.classification.local() || !switches().strips) return rows;
  const int64_t bytes = map.numel() * map.element_size();
  const int64_t count = (bytes + c.strip_bytes - 1) / c.strip_bytes;
  return std::min(
      rows, std::max<int64_t>((rows + count - 1) / count, 4 * c.heads.classification.radius()));
}

// The focal loss of one level, strip by strip. A strip's own rows are exact because the tower sees
// `radius` more on each side. Every window has the same height: the convolution library prepares
// itself anew for every shape. Result: the gradient of `map`, when trained and not `joint`.
at::Tensor add_classification_loss(const LossContext& c, size_t level, const at::Tensor& map,
                                   bool train, LossSums& sums, Timer& timer, Roots* joint) {
  const LossConfig& loss = c.config.loss;
  const auto focal = switches().fused_focal ? &focal_loss : &composed_focal_loss;
  const int64_t rows = map.size(2), row = map.size(3) * c.grid.per_cell;
  const int64_t strip = strip_rows(c, map, train && joint == nullptr);
  const int64_t height = std::min(rows, strip + 2 * c.heads.classification.radius());
  at::Tensor gradient;
  for (int64_t y = 0; y < rows; y += strip) {
    const int64_t own = std::min(strip, rows - y);
    const int64_t top =
        strip == rows ? 0
                      : std::clamp<int64_t>(y - c.heads.classification.radius(), 0, rows - height);
    const bool whole = own == rows;
    at::Tensor leaf = whole ? map : map.narrow(2, top, height);
    if (joint == nullptr) leaf = leaf.detach().requires_grad_(train);
    at::Tensor sum;
    {
      c10::AutoGradMode grad(train);
      at::Tensor logits = tower_forward(c.heads.classification, leaf);
      at::Tensor match = c.targets.match[level];
      if (!whole) {
        logits = logits.narrow(1, (y - top) * row, own * row);
        match = match.narrow(1, y * row, own * row);
      }
      timer.mark("classification");
      sum = focal(logits, match, c.targets.labels, c.targets.box_offsets, loss.alpha, loss.gamma);
    }
    sums.classification.add_(sum.detach());
    timer.mark("loss");
    if (!train) continue;
    const at::Tensor weights = c.weights * loss.classification_weight;
    if (joint != nullptr) {
      joint->add(sum, weights);
      continue;
    }
    torch::autograd::backward({sum}, {weights});
    if (whole) {
      gradient = leaf.grad();
    } else {
      if (!gradient.defined()) gradient = at::zeros_like(map);
      gradient.narrow(2, top, height).add_(leaf.grad());
    }
    timer.mark("classificationBackward");
  }
  return gradient;
}

}  // namespace

std::vector<double> image_weights(const std::vector<int64_t>& positives, const LossConfig& config,
                                  NormaliserState& state, bool update) {
  const double n = static_cast<double>(positives.size());
  int64_t total = 0;
  for (int64_t p : positives) total += p;
  const double batch = static_cast<double>(std::max<int64_t>(1, total));
  std::vector<double> weights(positives.size());
  switch (config.normaliser) {
    case Normaliser::kPerImage:
      for (size_t i = 0; i < weights.size(); ++i) {
        weights[i] = 1 / (n * static_cast<double>(std::max<int64_t>(1, positives[i])));
      }
      break;
    case Normaliser::kBatch:
      std::fill(weights.begin(), weights.end(), 1 / batch);
      break;
    case Normaliser::kEma:
      if (update) state.mean = config.ema_momentum * state.mean + (1 - config.ema_momentum) * batch;
      std::fill(weights.begin(), weights.end(), 1 / state.mean);
      break;
  }
  return weights;
}

LossSums make_loss_sums(int64_t images, at::Device device) {
  const auto options = at::TensorOptions(at::kDouble).device(device);
  return {at::zeros({images}, options), at::zeros({images}, options)};
}

at::Tensor add_level_loss(const LossContext& c, size_t level, const at::Tensor& map, bool train,
                          LossSums& sums, Timer& timer, Roots* joint) {
  const at::Tensor source = joint ? map : map.detach();
  at::Tensor gradient = add_classification_loss(c, level, source, train, sums, timer, joint);
  add_box_loss(c, level, source, gradient, train, sums, timer, joint);
  return gradient;
}

}  // namespace mammo
