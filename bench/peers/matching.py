"""torchvision's box_iou matrix and Matcher."""
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from common import measure, options

h, w, n = options["height"], options["width"], options["boxes"]
sizes = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)(
    ImageList(torch.zeros(1, 1, h, w), [(h, w)]), [torch.zeros(1, 1, -(-h // 2**level), -(-w // 2**level)) for level in range(3, 8)]
)[0]
torch.manual_seed(0)
corner = torch.rand(n, 2) * torch.tensor([w - 700.0, h - 700.0])
boxes = torch.cat([corner, corner + 50 + 600 * torch.rand(n, 2)], 1)
matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
measure(lambda: matcher(box_iou(boxes, anchors)), warmup=1, count=7, extra={"anchors": len(anchors)})
