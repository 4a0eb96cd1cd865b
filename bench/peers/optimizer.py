"""PyTorch's fused optimiser step on the parameters of a ResNet-50 RetinaNet, with the norm of all gradients, which ours measures too."""
import statistics

import torch

from common import clock, measure, options
from model import build

parameters = [p for p in build(0, 128, 128).parameters() if p.requires_grad]
kinds = {
    "sgd": lambda: torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=True),
    "adamw": lambda: torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-4, fused=True),
}
optimizer = kinds[options["optimizer"]]()
for parameter in parameters:
    parameter.grad = torch.full_like(parameter, 1e-3)


def step():
    torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    optimizer.step()


alone = []
for _ in range(6):
    start = clock()
    optimizer.step()
    alone.append(clock() - start)
measure(step, warmup=2, count=int(options.get("count", 10)), extra={"withoutNormSeconds": statistics.median(alone[1:])})
