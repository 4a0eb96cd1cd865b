// Windows to network input: checks and choice of the device.
#include "core/ops/warp.h"

#include <ATen/ATen.h>

#include <cmath>
#include <string>

#include "core/error.h"
#include "core/ops/cpu/warp.h"
#ifdef MAMMO_WITH_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "core/ops/cuda/warp.h"
#endif

namespace mammo {
namespace {

void check_window(const Window& w, int64_t pixels, const std::array<int64_t, 2>& canvas,
                  size_t index) {
  const auto refuse = [&](const std::string& what) {
    throw Error("ARGUMENT", "warp: window " + std::to_string(index) + ": " + what);
  };
  if (w.rows < 1 || w.cols < 1 || w.offset < 0 || w.offset > pixels ||
      w.rows > (pixels - w.offset) / w.cols) {
    refuse("expected " + std::to_string(w.rows) + " x " + std::to_string(w.cols) + " pixels from " +
           std::to_string(w.offset) + ", there are " + std::to_string(pixels));
  }
  if (w.size[0] < 0 || w.size[1] < 0 || w.size[0] > canvas[0] || w.size[1] > canvas[1]) {
    refuse("expected a size within the canvas");
  }
  if (w.reduce < 0 || w.reduce > 15) refuse("expected reduce within 0..15");
  if (!(w.std > 0) || !std::isfinite(w.std) || !std::isfinite(w.mean)) {
    refuse("expected a finite mean and a standard deviation above 0");
  }
  if (!(w.intensity[2] > 0)) refuse("expected gamma above 0");
  const Elastic& e = w.elastic;
  if (!(e.amplitude >= 0) || !std::isfinite(e.spacing) ||
      (e.amplitude > 0 && !(e.spacing >= kElasticSpacingFactor * e.amplitude))) {
    refuse("expected an elastic amplitude of 0 or more and nodes 5 amplitudes apart at least");
  }
  for (double a : w.affine) {
    if (!std::isfinite(a)) refuse("expected a finite affine");
  }
}

}  // namespace

at::Tensor warp_windows(const at::Tensor& pixels, const std::vector<Window>& windows, int channels,
                        const std::array<int64_t, 2>& canvas) {
  const auto images = static_cast<int64_t>(windows.size());
  if (pixels.dim() != 1 ||
      (pixels.scalar_type() != at::kShort && pixels.scalar_type() != at::kUInt16)) {
    throw Error("ARGUMENT", "warp: expected pixels uint16 [p]");
  }
  if (channels < 1 || canvas[0] < 1 || canvas[1] < 1) {
    throw Error("ARGUMENT", "warp: expected at least one channel and a canvas");
  }
  for (size_t i = 0; i < windows.size(); ++i) check_window(windows[i], pixels.numel(), canvas, i);
  at::Tensor out =
      at::empty({images, channels, canvas[0], canvas[1]}, pixels.options().dtype(at::kFloat));
  if (images == 0) return out;
  const at::Tensor source = pixels.contiguous();
  const auto* data = static_cast<const uint16_t*>(source.data_ptr());
  if (source.is_cpu()) {
    cpu::warp_windows(data, windows, channels, canvas, out.data_ptr<float>());
    return out;
  }
#ifdef MAMMO_WITH_CUDA
  const c10::cuda::CUDAGuard guard(source.device());
  const int64_t plane = canvas[0] * canvas[1];
  for (int64_t i = 0; i < images; ++i) {
    const Window& w = windows[i];
    const int64_t block = int64_t{1} << w.reduce;
    at::Tensor reduced;
    if (w.reduce > 0) {
      reduced =
          at::empty({(w.rows + block - 1) / block, (w.cols + block - 1) / block}, out.options());
    }
    const auto [contrast, brightness, gamma, sigma] = w.intensity;
    const auto& m = w.affine;
    const cuda::WarpArguments arguments{
        w.rows,    w.cols,       {m[0], m[1], m[2], m[3], m[4], m[5]},
        w.reduce,  w.mean,       w.std,
        contrast,  brightness,   gamma,
        sigma,     w.noise_seed, w.size[0],
        w.size[1], channels,     canvas[0],
        canvas[1], w.elastic};
    cuda::warp_window(
        data + w.offset, arguments, reduced.defined() ? reduced.data_ptr<float>() : nullptr,
        out.data_ptr<float>() + i * channels * plane, c10::cuda::getCurrentCUDAStream());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return out;
#else
  throw Error("DEVICE", "warp: this build has no kernels for " + source.device().str());
#endif
}

}  // namespace mammo
