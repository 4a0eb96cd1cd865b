"""torchvision in evaluation mode: one image to detections; with `films`, whole real films one after the other."""
import glob
import os

import numpy
import torch
from PIL import Image

from common import clock, measure, options, report
from model import build

Image.MAX_IMAGE_PIXELS = None
model = build(5, options["height"], options["width"]).eval()


@torch.inference_mode()
def run(image):
    model(image)


if options.get("films"):
    data = os.environ.get("MAMMO_DATA", os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared", "data"))
    seconds, pixels = [], []
    for path in sorted(glob.glob(os.path.join(data, "cbis-ddsm-fullres", "*.jpg")))[:2]:
        grey = torch.from_numpy(numpy.asarray(Image.open(path).convert("L"), dtype=numpy.float32) / 255)
        # As large as it is: no resize, padded to the stride inside.
        model.transform.min_size, model.transform.max_size = (min(grey.shape),), max(grey.shape)
        start = clock()
        run([grey[None].expand(3, -1, -1)])
        seconds.append(clock() - start)
        pixels.append(grey.numel() / 1e6)
    report(seconds, {"megapixels": sum(pixels) / len(pixels)})
image = [torch.rand(1, options["height"], options["width"]).expand(3, -1, -1)]
measure(lambda: run(image), warmup=int(options.get("warmup", 1)), count=int(options.get("count", 5)))
