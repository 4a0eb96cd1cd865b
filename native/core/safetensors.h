// The .safetensors container: an 8-byte length, a JSON header, the tensors' bytes. Written
// atomically, read with every size checked before anything is trusted. Format:
// github.com/huggingface/safetensors.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <vector>

namespace mammo {

struct SafetensorsFile {
  std::map<std::string, std::string> metadata;
  std::map<std::string, at::Tensor> tensors;  // on the CPU
};

/// Error CHECKPOINT: missing, truncated or not a safetensors file; the message says which.
SafetensorsFile read_safetensors(const std::string& path);

/// Tensors of float32, float64, int64 or uint8 on any device. Temporary name in the same folder,
/// fsync, rename, fsync of the folder; an earlier file of that name stays whole until the rename.
/// Error DISK_FULL, CHECKPOINT.
void write_safetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace mammo
