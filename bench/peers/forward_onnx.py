"""torchvision's RetinaNet exported to ONNX, run by onnxruntime for Python: one image to detections. The export is a process of its own."""
import os
import subprocess
import sys
import tempfile

from common import measure, options

height, width = options["height"], options["width"]
EXPORT = """
import sys, torch
sys.argv = [sys.argv[0], sys.argv[4], *sys.argv[1:4]]
from model import build
path, height, width = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
model = build(5, height, width).eval()
image = torch.rand(3, height, width)
with torch.inference_mode():
    torch.onnx.export(model, ([image],), path, opset_version=17, dynamo=False)
"""

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "peer.onnx")
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([sys.executable, "-c", EXPORT, path, str(height), str(width), sys.argv[1]], check=True, cwd=here, stdout=sys.stderr)
    import numpy
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(options["threads"])
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

name = session.get_inputs()[0].name
image = numpy.random.default_rng(0).random((3, height, width), dtype=numpy.float32)
measure(
    lambda: session.run(None, {name: image}),
    warmup=int(options.get("warmup", 1)),
    count=int(options.get("count", 5)),
    extra={"onnxruntime": onnxruntime.__version__},
)
