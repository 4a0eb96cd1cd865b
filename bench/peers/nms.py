"""torchvision's nms on scattered boxes."""
import torch
from torchvision.ops import nms

from common import measure, options

n = options["boxes"]
torch.manual_seed(0)
corner = torch.rand(n, 2) * 4000
boxes = torch.cat([corner, corner + 20 + 200 * torch.rand(n, 2)], 1)
scores = torch.rand(n)
measure(lambda: nms(boxes, scores, 0.5), warmup=1, count=7)
