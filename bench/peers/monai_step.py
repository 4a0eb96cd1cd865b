"""One update of MONAI's RetinaNet detector (ResNet-50 of its own, one grey channel, P3 to P6, batch norm trained, as its users build it)."""
import monai
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from monai.networks.nets import resnet

from common import measure, options

height, width, batch = options["height"], options["width"], options["batch"]
torch.manual_seed(0)
body = resnet.ResNet(
    block="bottleneck",
    layers=[3, 4, 6, 3],
    block_inplanes=resnet.get_inplanes(),
    spatial_dims=2,
    n_input_channels=1,
    conv1_t_size=[7, 7],
    conv1_t_stride=[2, 2],
)
features = resnet_fpn_feature_extractor(body, spatial_dims=2, pretrained_backbone=False, returned_layers=[2, 3, 4])
sizes = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256))
anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 4)
network = RetinaNet(2, 1, anchors.num_anchors_per_location()[0], features, size_divisible=[64, 64])
detector = RetinaNetDetector(network, anchors)
detector.set_regular_matcher(0.5, 0.4)
detector.set_target_keys("box", "label")
detector.train()
parameters = [p for p in network.parameters() if p.requires_grad]
optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4)
images = [torch.rand(1, height, width) for _ in range(batch)]
x, y = 0.3 * width, 0.3 * height
boxes = torch.tensor([[x, y, x + 200, y + 200], [0.5 * width, 0.5 * height, 0.5 * width + 400, 0.5 * height + 400]])
targets = [{"box": boxes.clone(), "label": torch.zeros(2, dtype=torch.int64)} for _ in range(batch)]


def step():
    optimizer.zero_grad(set_to_none=True)
    losses = detector(images, targets)
    sum(losses.values()).backward()
    optimizer.step()


measure(step, warmup=int(options.get("warmup", 1)), count=int(options.get("count", 5)), limit=120, extra={"monai": monai.__version__})
