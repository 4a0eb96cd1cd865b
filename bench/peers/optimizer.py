"""PyTorch's fused optimiser step on the parameters of a ResNet-50 RetinaNet as ours is timed: the norm of all gradients, the update, and
the gradients given back. They are made anew before each step, outside the time."""
import torch

from common import clock, options, report, reset_peak
from model import build
from plain import status

parameters = [p for p in build(0, 128, 128).parameters() if p.requires_grad]
kinds = {
    "sgd": lambda: torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=True),
    "adamw": lambda: torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-4, fused=True),
}
optimizer = kinds[options["optimizer"]]()
reset_peak()
base = status("VmRSS")
seconds, updates = [], []
for _ in range(2 + int(options.get("count", 10))):
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    start = clock()
    torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    before = clock()
    optimizer.step()
    updates.append(clock() - before)
    optimizer.zero_grad(set_to_none=True)
    seconds.append(clock() - start)
report(seconds[2:], {"updateSeconds": sorted(updates[2:])[len(updates[2:]) // 2]}, base)
