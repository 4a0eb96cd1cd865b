"""The frozen body of torchvision's RetinaNet: one image to the maps that its pyramid takes."""
import torch

from common import measure, options
from model import build

body = build(5, options["height"], options["width"]).train().backbone.body
image = torch.rand(1, 1, options["height"], options["width"]).expand(-1, 3, -1, -1).contiguous()
measure(lambda: body(image), warmup=int(options.get("warmup", 1)), count=int(options.get("count", 5)))
