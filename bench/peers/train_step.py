"""One torchvision update: forward, losses, backward, SGD; two lesions per image."""
import torch

from common import measure, options
from model import build, lesions

height, width, batch = options["height"], options["width"], options["batch"]
model = build(options["frozenStages"], height, width)
model.train()
parameters = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4)
images = [torch.rand(1, height, width).expand(3, -1, -1) for _ in range(batch)]
targets = [lesions(height, width) for _ in range(batch)]


def step():
    optimizer.zero_grad(set_to_none=True)
    losses = model(images, targets)
    sum(losses.values()).backward()
    optimizer.step()


measure(step, warmup=int(options.get("warmup", 1)), count=int(options.get("count", 5)), limit=120)
