// Measures training steps of the ResNet-50 detector: full_size_step [height width images levels
// frozen_stages steps threads]. Defaults: 4096 3328 1 4..7 5 2 2. Prints seconds by part, and
// resident memory against which the 6 GiB promise is checked.
#include <ATen/ATen.h>

#include <cstdlib>
#include <iostream>

#include "configs.h"
#include "core/session.h"

using namespace mammo;

int main(int argc, char** argv) {
  const auto argument = [&](int i, int64_t fallback) {
    return argc > i ? std::atoll(argv[i]) : fallback;
  };
  const int64_t height = argument(1, 4096), width = argument(2, 3328), images = argument(3, 1),
                lowest = argument(4, 4);
  SessionConfig config = test::default_config();
  ModelConfig& model = config.detector.model;
  model.channels = 1;
  model.frozen_stages = static_cast<int>(argument(5, 5));
  model.levels.clear();
  config.detector.anchors.sizes.clear();
  config.detector.anchors.strides.clear();
  for (int level = static_cast<int>(lowest); level <= 7; ++level) {
    model.levels.push_back(level);
    config.detector.anchors.sizes.push_back(4 << level);
    config.detector.anchors.strides.push_back(1 << level);
  }
  configure_engine(static_cast<int>(argument(7, 2)));
  Session session(config);

  ImageBatch batch{{height, width},
                   {},
                   std::nullopt,
                   std::vector<float>(static_cast<size_t>(images * height * width))};
  TargetBatch targets;
  targets.box_offsets.push_back(0);
  targets.ignore_offsets.assign(static_cast<size_t>(images + 1), 0);
  for (size_t i = 0; i < batch.input->size(); ++i)
    (*batch.input)[i] = static_cast<float>(i * 2654435761u % 1000) / 500 - 1;
  for (int64_t i = 0; i < images; ++i) {
    batch.sizes.insert(batch.sizes.end(),
                       {static_cast<int32_t>(height), static_cast<int32_t>(width)});
    const float x = static_cast<float>(width) / 3, y = static_cast<float>(height) / 3;
    targets.boxes.insert(targets.boxes.end(), {x, y, x + 250, y + 280});
    targets.labels.push_back(0);
    targets.box_offsets.push_back(static_cast<int32_t>(i + 1));
  }
  for (int64_t step = 0; step < argument(6, 2); ++step) {
    const StepResult r = session.train_step(
        batch, targets, {1e-4, 0.05, 1.0, std::nullopt, std::nullopt, 1, true, true});
    double total = 0;
    std::cout << "step " << step << ": loss " << r.loss << ", positives " << r.positives;
    for (const auto& [part, seconds] : r.seconds) {
      std::cout << ", " << part << " " << seconds;
      total += seconds;
    }
    const MemoryUse memory = memory_use();
    std::cout << ", total " << total << " s; resident " << (memory.resident_bytes >> 20)
              << " MiB, peak " << (memory.resident_peak_bytes >> 20) << " MiB" << std::endl;
  }
  return 0;
}
