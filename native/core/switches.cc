// Switches and the layout table.
#include "core/switches.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <map>
#include <sstream>

#include "core/error.h"

namespace mammo {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Switches read() {
  Switches s;
  const std::map<std::string, bool*> names{
      {"arena", &s.arena},         {"sparse_box", &s.sparse_box}, {"fold_norm", &s.fold_norm},
      {"fuse_relu", &s.fuse_relu}, {"level_wise", &s.level_wise}, {"fused_focal", &s.fused_focal}};
  std::istringstream list(environment("MAMMO_OFF"));
  for (std::string name; std::getline(list, name, ',');) {
    const auto found = names.find(name);
    if (found == names.end()) {
      std::string known;
      for (const auto& [k, value] : names) known += (known.empty() ? "" : ", ") + k;
      throw Error("ARGUMENT", "MAMMO_OFF: expected some of " + known + ", got " + name);
    }
    *found->second = false;
  }
  s.layout = environment("MAMMO_LAYOUT");
  if (s.layout != "" && s.layout != "nchw" && s.layout != "nhwc") {
    throw Error("ARGUMENT", "MAMMO_LAYOUT: expected nchw or nhwc, got " + s.layout);
  }
  return s;
}

}  // namespace

const Switches& switches() {
  static const Switches s = read();
  return s;
}

at::MemoryFormat convolution_layout() {
  const std::string& asked = switches().layout;
  if (asked == "nchw") return at::MemoryFormat::Contiguous;
  if (asked == "nhwc") return at::MemoryFormat::ChannelsLast;
  // Channels-last gains 2 % of a step with AVX-512 and is several times slower in the 3x3 weight
  // gradient with AVX2; with it LibTorch 2.13 also ended a small network in a segmentation fault
  // (bench/README.md). So it is used on request only.
  return at::MemoryFormat::Contiguous;
}

at::Tensor in_layout(const at::Tensor& input) {
  const at::MemoryFormat format = convolution_layout();
  if (format != at::MemoryFormat::ChannelsLast || input.size(1) != 1) {
    return input.contiguous(format);
  }
  // One channel lies in memory the same way in both orders; only the strides tell them apart.
  const int64_t h = input.size(2), w = input.size(3);
  return input.contiguous().as_strided(input.sizes(), {h * w, 1, w, 1});
}

}  // namespace mammo
