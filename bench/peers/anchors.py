"""torchvision's AnchorGenerator; it has no cache, so both variants do the same work."""
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from common import measure, options

h, w = options["height"], options["width"]
sizes = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
images = ImageList(torch.zeros(1, 1, h, w), [(h, w)])
maps = [torch.zeros(1, 1, -(-h // 2**level), -(-w // 2**level)) for level in range(3, 8)]
measure(lambda: generator(images, maps), warmup=1, count=10)
