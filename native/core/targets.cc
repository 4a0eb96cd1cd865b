// Matching of a batch.
#include "core/targets.h"

#include <cmath>
#include <numeric>
#include <string>

#include "core/error.h"
#include "core/ops/matcher.h"
#include "core/upload.h"

namespace mammo {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw Error("ARGUMENT", message);
}

void check_offsets(const std::vector<int32_t>& offsets, size_t images, size_t rows,
                   const char* name) {
  require(offsets.size() == images + 1,
          std::string(name) + ": expected " + std::to_string(images + 1) + " numbers for " +
              std::to_string(images) + " images, got " + std::to_string(offsets.size()));
  require(offsets.front() == 0 && offsets.back() == static_cast<int64_t>(rows),
          std::string(name) + ": expected to run from 0 to " + std::to_string(rows));
  for (size_t i = 0; i < images; ++i) {
    require(offsets[i] <= offsets[i + 1], std::string(name) + ": expected ascending numbers");
  }
}

void check_boxes(const std::vector<float>& boxes, const char* name) {
  require(boxes.size() % 4 == 0, std::string(name) + ": expected four numbers per box");
  for (size_t i = 0; i < boxes.size(); i += 4) {
    const float* b = &boxes[i];
    const bool finite =
        std::isfinite(b[0]) && std::isfinite(b[1]) && std::isfinite(b[2]) && std::isfinite(b[3]);
    require(finite && b[2] > b[0] && b[3] > b[1],
            std::string(name) + "[" + std::to_string(i / 4) +
                "]: expected finite x1 < x2 and y1 < y2, got " + std::to_string(b[0]) + ", " +
                std::to_string(b[1]) + ", " + std::to_string(b[2]) + ", " + std::to_string(b[3]));
  }
}

void check(const TargetBatch& targets, size_t images, int classes) {
  check_boxes(targets.boxes, "boxes");
  check_boxes(targets.ignore, "ignore");
  check_offsets(targets.box_offsets, images, targets.boxes.size() / 4, "boxOffsets");
  check_offsets(targets.ignore_offsets, images, targets.ignore.size() / 4, "ignoreOffsets");
  require(targets.labels.size() == targets.boxes.size() / 4, "labels: expected one per box");
  for (size_t i = 0; i < targets.labels.size(); ++i) {
    require(targets.labels[i] >= 0 && targets.labels[i] < classes,
            "labels[" + std::to_string(i) + "]: expected 0 to " + std::to_string(classes - 1) +
                ", got " + std::to_string(targets.labels[i]));
  }
}

at::Tensor box_tensor(const std::vector<float>& boxes, at::Device device) {
  at::Tensor t = at::empty({static_cast<int64_t>(boxes.size() / 4), 4});
  std::copy(boxes.begin(), boxes.end(), t.data_ptr<float>());
  return upload(t, device);
}

}  // namespace

int64_t MatchedTargets::total() const {
  return std::accumulate(per_image.begin(), per_image.end(), int64_t{0});
}

MatchedTargets match_targets(const AnchorGrid& grid, const TargetBatch& targets,
                             const std::vector<ImageSize>& sizes, const DetectorConfig& config,
                             at::Device device) {
  at::NoGradGuard no_grad;
  const int64_t n = static_cast<int64_t>(sizes.size());
  check(targets, sizes.size(), config.model.classes);

  MatchedTargets matched;
  matched.boxes = box_tensor(targets.boxes, device);
  const at::Tensor ignore = box_tensor(targets.ignore, device);
  matched.labels = at::empty({static_cast<int64_t>(targets.labels.size())}, at::kInt);
  std::copy(targets.labels.begin(), targets.labels.end(), matched.labels.data_ptr<int32_t>());
  matched.labels = upload(matched.labels, device);
  matched.box_offsets = at::empty({n + 1}, at::kLong);
  std::copy(targets.box_offsets.begin(), targets.box_offsets.end(),
            matched.box_offsets.data_ptr<int64_t>());

  const auto rows = [](const at::Tensor& t, const std::vector<int32_t>& offsets, int64_t i) {
    return t.narrow(0, offsets[i], offsets[i + 1] - offsets[i]);
  };
  std::vector<at::Tensor> images;
  for (int64_t i = 0; i < n; ++i) {
    images.push_back(match_anchors(grid, rows(matched.boxes, targets.box_offsets, i),
                                   rows(ignore, targets.ignore_offsets, i), sizes[i],
                                   config.matcher));
  }
  const at::Tensor match = at::stack(images);  // [n, total]

  // The positives are few; the host needs them to place crops and to count. This is the one wait
  // for the device before the forward.
  const at::Tensor where = at::nonzero(match >= 0);  // [p,2] image, anchor
  const at::Tensor found =
      at::cat(
          {where, match.index({where.select(1, 0), where.select(1, 1)}).to(at::kLong).unsqueeze(1)},
          1)
          .cpu();
  matched.per_image.assign(n, 0);
  matched.positives.resize(grid.levels.size());
  const auto found_rows = found.accessor<int64_t, 2>();
  for (int64_t p = 0; p < found.size(0); ++p) {
    const int64_t image = found_rows[p][0], anchor = found_rows[p][1];
    size_t level = grid.levels.size() - 1;
    while (anchor < grid.levels[level].first) --level;
    matched.positives[level].push_back(
        {image, anchor - grid.levels[level].first, targets.box_offsets[image] + found_rows[p][2]});
    ++matched.per_image[image];
  }
  for (const AnchorLevel& level : grid.levels) {
    matched.match.push_back(
        match.narrow(1, level.first, level.rows * level.cols * grid.per_cell).contiguous());
  }
  return matched;
}

}  // namespace mammo
