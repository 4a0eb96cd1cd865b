"""torchvision in evaluation mode: one image to detections."""
import torch

from common import measure, options
from model import build

model = build(5, options["height"], options["width"]).eval()
image = [torch.rand(1, options["height"], options["width"]).expand(3, -1, -1)]


@torch.inference_mode()
def run():
    model(image)


measure(run, warmup=1, count=int(options.get("count", 5)))
