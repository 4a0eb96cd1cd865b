// Where a backward starts: outputs of a graph and their gradients, collected until it runs.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>
#include <vector>

namespace mammo {

struct Roots {
  std::vector<at::Tensor> outputs, gradients;

  void add(at::Tensor output, at::Tensor gradient) {
    outputs.push_back(std::move(output));
    gradients.push_back(std::move(gradient));
  }
  /// Parameter gradients and those of leaves accumulate; the graph is gone afterwards. Once.
  void backward() {
    if (!outputs.empty()) torch::autograd::backward(outputs, gradients);
    outputs.clear();
    gradients.clear();
  }
};

}  // namespace mammo
