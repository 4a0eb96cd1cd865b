// Where a backward starts: places in a graph and the gradients that enter there, collected until it
// runs.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/engine.h>

#include <utility>

namespace mammo {

struct Roots {
  torch::autograd::edge_list edges;
  torch::autograd::variable_list gradients;

  /// Only the place in the graph is kept, so that the backward frees `output` as it goes.
  void add(at::Tensor output, at::Tensor gradient) {
    edges.push_back(torch::autograd::impl::gradient_edge(output));
    TORCH_INTERNAL_ASSERT(edges.back().is_valid(), "a backward from what has no gradient");
    gradients.push_back(std::move(gradient));
  }
  /// Parameter gradients and those of leaves accumulate; the graph is gone afterwards. Once.
  void backward() {
    if (!edges.empty()) {
      torch::autograd::Engine::get_default_engine().execute(
          edges, gradients, /*keep_graph=*/false, /*create_graph=*/false, /*accumulate_grad=*/true);
    }
    edges.clear();
    gradients.clear();
  }
};

}  // namespace mammo
