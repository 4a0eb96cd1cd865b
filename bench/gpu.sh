#!/usr/bin/env bash
# Everything that needs a GPU, in one call of less than ten minutes: builds native/core against the PyTorch of the Python at hand, runs the
# correctness tests on the GPU, then our trials and torchvision's on the same work, where it is installed. Prints a table and writes it to a file.
#
#   bench/gpu.sh [--device cuda|cpu] [--tiny] [--python PATH] [--torch PATH] [--jobs N] [--out FILE]
#
# --device cpu --tiny tries the script itself on a machine without a GPU. --torch names another LibTorch (2.11 to 2.13) than the Python's own.
set -euo pipefail
cd "$(dirname "$0")/.."

device=cuda tiny=no python=${MAMMO_PEER_PYTHON:-python3} torch='' jobs=$(nproc) out=''
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2; shift 2 ;;
    --tiny) tiny=yes; shift ;;
    --python) python=$2; shift 2 ;;
    --torch) torch=$2; shift 2 ;;
    --jobs) jobs=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    *) echo "gpu.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
if [ -z "$torch" ]; then
  torch=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))')
fi
build=build/gpu-$device
lines=$build/lines.jsonl
if [ -z "$out" ]; then
  if [ "$tiny" = yes ]; then out=$build/result.json; else out=bench/results/gpu.json; fi
fi
started=$(date +%s)
mkdir -p build

generator=()
if command -v ninja > /dev/null; then generator=(-G Ninja); fi
cuda_build=OFF
if [ "$device" = cuda ]; then cuda_build=ON; fi
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_PREFIX_PATH="$torch" -DMAMMO_CUDA=$cuda_build -DMAMMO_BENCH=ON > "build/gpu-cmake.log" 2>&1 \
  || { tail -20 build/gpu-cmake.log >&2; exit 1; }
cmake --build "$build" -j "$jobs" --target detector_bench cuda_test session_test
echo "built after $(( $(date +%s) - started )) s"

# The step on a GPU is compared with the CPU's; without a GPU cuda_test says that it is skipped.
(cd "$build" && ctest --output-on-failure -R '^(cuda_test|session_test)$')

gpu='no GPU' driver=''
if [ "$device" = cuda ]; then
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
fi
commit=$(git rev-parse --short HEAD 2> /dev/null || echo unknown)
printf '{"gpu": "%s", "driver": "%s", "device": "%s", "date": "%s", "commit": "%s", "tiny": %s}\n' \
  "$gpu" "$driver" "$device" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$commit" "$([ "$tiny" = yes ] && echo true || echo false)" > "$lines"

# One side of one trial; what fails is a row too. A trial may take a minute.
record() { # TRIAL SIDE COMMAND...
  local trial=$1 side=$2 text status=0
  shift 2
  echo "$trial: $side" >&2
  text=$(timeout 60 "$@" 2> "$build/error.log" | tail -n 1) || status=$?
  if [ $status -ne 0 ]; then
    text=$(tail -n 1 "$build/error.log" | sed 's|["\\]||g' | cut -c 1-120)
    printf '{"trial": "%s", "side": "%s", "error": "ended with %s: %s"}\n' "$trial" "$side" "$status" "$text" >> "$lines"
  else
    printf '{"trial": "%s", "side": "%s", %s\n' "$trial" "$side" "${text#\{}" >> "$lines"
  fi
}

precision=bf16 scale=1 batch=8
if [ "$tiny" = yes ]; then precision=fp32 scale=8 batch=1; fi
ours=("$build/native/bench/detector_bench")
peer=()
if "$python" -c 'import torchvision' 2> /dev/null; then peer=("$python" bench/peers/gpu_step.py); else echo 'torchvision is not installed: no peer'; fi

both() { # TRIAL WORK OPTIONS...
  local trial=$1 work=$2
  shift 2
  local common=("$work" --device "$device" --precision "$precision" --steps 20 --seconds 12 "$@")
  if [ "$tiny" = yes ]; then common=("$work" --device "$device" --precision "$precision" "$@" --steps 1 --warmup 0 --backbone resnet18); fi
  record "$trial" mammo-retinanet "${ours[@]}" "${common[@]}"
  if [ ${#peer[@]} -gt 0 ]; then
    record "$trial" torchvision "${peer[@]}" "${common[@]}"
    if [ "$tiny" = no ]; then record "$trial" 'torchvision, channels last' "${peer[@]}" "${common[@]}" --layout nhwc; fi
  fi
}

size=$((1024 / scale)) height=$((4096 / scale)) width=$((3328 / scale))
record "matrix product, $precision" mammo-retinanet "${ours[@]}" matmul --device "$device" --precision "$precision" --size $((8192 / scale / scale))
if [ "$tiny" = no ]; then record 'matrix product, fp32' mammo-retinanet "${ours[@]}" matmul --device "$device" --size 8192; fi
both "step, 1024 x 1024, batch 8" train --batch $batch --height $size --width $size
both "step, 4096 x 3328, frozen body" train --frozen 5 --height $height --width $width
both "step, 4096 x 3328, all layers" train --checkpoint 1 --height $height --width $width
both "detect, 1024 x 1024, batch 8" detect --batch $batch --height $size --width $size
both "detect, 4096 x 3328" detect --height $height --width $width
if [ "$tiny" = no ]; then both "step, 1024 x 1024, batch 16" train --batch 16 --height $size --width $size; fi

"$python" bench/peers/gpu_report.py "$lines" "$out"
echo "all done after $(( $(date +%s) - started )) s"
