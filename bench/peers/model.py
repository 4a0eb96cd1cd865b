"""torchvision's RetinaNet with a ResNet-50 and frozen batch norm, as its users build it; weights are random."""
import torch
from torchvision.models import resnet50
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7


def build(frozen_stages, height, width):
    torch.manual_seed(0)
    trainable = 5 - frozen_stages
    body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    backbone = _resnet_fpn_extractor(body, trainable, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(2048, 256))
    if frozen_stages == 5:
        for parameter in backbone.body.parameters():
            parameter.requires_grad_(False)
    sizes = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    return RetinaNet(backbone, 2, anchor_generator=anchors, min_size=min(height, width), max_size=max(height, width))


def lesions(height, width):
    """Two boxes, the same as ours: 200 px and 400 px squares."""
    boxes = [[0.3 * width, 0.3 * height, 0.3 * width + 200, 0.3 * height + 200], [0.5 * width, 0.5 * height, 0.5 * width + 400, 0.5 * height + 400]]
    return {"boxes": torch.tensor(boxes), "labels": torch.zeros(2, dtype=torch.int64)}
