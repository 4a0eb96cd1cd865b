"""torchvision's sigmoid_focal_loss, sum, and its backward."""
import torch
from torchvision.ops import sigmoid_focal_loss

from common import measure, options

torch.manual_seed(0)
logits = (torch.randn(options["anchors"], options["classes"]) - 4.6).requires_grad_()
target = torch.zeros_like(logits)
target[:100, 0] = 1


def run():
    logits.grad = None
    sigmoid_focal_loss(logits, target, 0.25, 2.0, "sum").backward()


measure(run, warmup=2, count=10)
