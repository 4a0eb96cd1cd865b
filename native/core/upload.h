// Host values to the device without waiting for it: a copy from ordinary memory stops the host
// until everything queued before has run; one from page-locked memory is queued like a kernel.
// LibTorch keeps page-locked blocks and hands one out again only when its copy is done, so that two
// steps in a row use two of them.
#pragma once

#include <ATen/ATen.h>

namespace mammo {

/// `host` on `device`: itself where that is the CPU. May be changed or freed after the call on any
/// other device.
inline at::Tensor upload(const at::Tensor& host, at::Device device) {
  if (device.is_cpu()) return host;
  if (host.numel() == 0) return host.to(device);  // nothing is copied
  return host.pin_memory().to(device, /*non_blocking=*/true);
}

}  // namespace mammo
