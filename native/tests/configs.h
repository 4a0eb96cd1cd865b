// Configurations for the tests: a full default one and a tiny network, both as structs to be
// changed by each test.
#pragma once

#include "core/config.h"

namespace mammo::test {

/// ResNet-50, P3..P7, 9 anchors, one class, three channels: the network whose size the references
/// state.
inline SessionConfig default_config() {
  SessionConfig c{};
  c.detector.model = {"resnet50",
                      3,
                      64,
                      false,
                      Padding::kSymmetric,
                      NormPolicy::kFrozen,
                      1e-5,
                      {3, 4, 5, 6, 7},
                      256,
                      true,
                      false,
                      4,
                      false,
                      false,
                      1,
                      0.01,
                      0,
                      Recompute::kNothing};
  c.detector.anchors = {{32, 64, 128, 256, 512},
                        {8, 16, 32, 64, 128},
                        {1, 1.2599210498948732, 1.5874010519681994},
                        {0.5, 1, 2},
                        true,
                        false,
                        false,
                        0.5,
                        false};
  c.detector.matcher = {
      MatcherKind::kIou, 0.5f, 0.4f, false, true, 0.2f, OutsideRule::kIgnoreBackground, 4, true};
  c.detector.coder = {false, {1, 1, 1, 1}, 4.135166556742356f};
  c.detector.loss = {0.25, 2, BoxLossKind::kGiou, 0.1, 1, 1, Normaliser::kEma, 0.9, 100};
  c.detector.post = {0.05f, 1000, 0.5f, false, false, 100, 0, ClipRule::kImage};
  c.optimizer = {OptimizerKind::kAdamW, 0.9, false, 0.9, 0.999, 1e-8, false, false};
  c.device = "cpu";
  c.seed = 7;
  c.deterministic = true;
  c.precision = Precision::kFp32;
  return c;
}

/// ResNet-18 of width 8 with group norm, P3..P5, 16 channels in pyramid and heads, two classes, one
/// input channel: milliseconds a step.
inline SessionConfig tiny_config() {
  SessionConfig c = default_config();
  ModelConfig& m = c.detector.model;
  m.backbone = "resnet18";
  m.channels = 1;
  m.stem_width = 8;
  m.norm = NormPolicy::kGroup;
  m.levels = {3, 4, 5};
  m.fpn_channels = 16;
  m.head_depth = 2;
  m.classes = 2;
  c.detector.anchors.sizes = {32, 64, 128};
  c.detector.anchors.strides = {8, 16, 32};
  return c;
}

}  // namespace mammo::test
