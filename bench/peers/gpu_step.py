"""torchvision's RetinaNet on a GPU (or, for a try, on the CPU): training steps or detection, as JSON. Called by bench/gpu.sh with the
same keys as native/bench/detector_bench.cc; bf16 is torch.autocast, the layout channels-last where `layout` says so."""
import argparse
import json
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

parser = argparse.ArgumentParser()
parser.add_argument("work", choices=["train", "detect"])
for name, default in {"device": "cuda", "precision": "bf16", "layout": "nchw", "backbone": "resnet50"}.items():
    parser.add_argument(f"--{name}", default=default)
for name, default in {"height": 1024, "width": 1024, "batch": 1, "frozen": 0, "steps": 10, "warmup": 3, "seconds": 20, "threads": 1}.items():
    parser.add_argument(f"--{name}", type=int, default=default)
for name in ("checkpoint", "lowest", "channels"):  # ours only
    parser.add_argument(f"--{name}")
given = parser.parse_args()
torch.set_num_threads(given.threads)
cuda = given.device != "cpu"


def build():
    import torchvision
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.models.detection.retinanet import RetinaNet
    from torchvision.ops import FrozenBatchNorm2d
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torch.manual_seed(0)
    body = getattr(torchvision.models, given.backbone)(weights=None, norm_layer=FrozenBatchNorm2d)
    features = body.fc.in_features
    backbone = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(features, 256))
    if given.frozen == 5:
        backbone.body.requires_grad_(False)
    sizes = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    sides = {"min_size": min(given.height, given.width), "max_size": max(given.height, given.width)}
    return RetinaNet(backbone, 2, anchor_generator=anchors, **sides).to(given.device), torchvision.__version__


model, version = build()
if given.layout == "nhwc":
    model = model.to(memory_format=torch.channels_last)
height, width = given.height, given.width
unit = min(1.0, min(height, width) / 1024)
corners = [(0.3 * width, 0.3 * height, 200 * unit), (0.5 * width, 0.5 * height, 400 * unit)]
boxes = torch.tensor([[x, y, x + side, y + side] for x, y, side in corners], device=given.device)
targets = [{"boxes": boxes, "labels": torch.zeros(2, dtype=torch.int64, device=given.device)} for _ in range(given.batch)]
# As a loader hands them over: pinned, uploaded in every step, like ours.
host = torch.rand(given.batch, 1, height, width)
host = host.pin_memory() if cuda else host
half = torch.autocast("cuda" if cuda else "cpu", torch.bfloat16, enabled=given.precision == "bf16")


def images():
    return list(host.to(given.device, non_blocking=True).expand(-1, 3, -1, -1))


if given.work == "train":
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=cuda)

    def once():
        optimizer.zero_grad(set_to_none=True)
        with half:
            losses = model(images(), targets)
        sum(losses.values()).backward()
        optimizer.step()

else:
    model.eval()

    @torch.inference_mode()
    def once():
        with half:
            model(images())


def wait():
    if cuda:
        torch.cuda.synchronize()


with FlopCounterMode(display=False) as counter:
    once()
for _ in range(given.warmup):
    once()
wait()
start = time.perf_counter()
done = 0
while done < given.steps and (done == 0 or time.perf_counter() - start < given.seconds):
    once()
    done += 1
wait()
seconds = (time.perf_counter() - start) / done
gflop = counter.get_total_flops() / 1e9
result = {"work": given.work, "seconds": seconds, "steps": done, "imagesPerSecond": given.batch / seconds, "gflop": gflop}
result |= {"tflops": gflop / seconds / 1e3, "peakBytes": torch.cuda.max_memory_reserved() if cuda else 0}
print(json.dumps(result | {"torch": torch.__version__, "torchvision": version}))
