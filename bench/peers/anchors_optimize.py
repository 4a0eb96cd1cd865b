"""SciPy's differential evolution on the anchor objective in NumPy, with the settings that shared/oracles names: processor time of the search."""
import json
import os
import time

import numpy
import scipy
from scipy.optimize import differential_evolution

from plain import options, report, status

here = os.path.dirname(os.path.abspath(__file__))
shared = os.path.join(here, "..", "..", "..", "shared")
oracle = json.load(open(os.path.join(os.environ.get("MAMMO_ORACLES", os.path.join(shared, "oracles")), "anchor_optimization.json")))


def load(name):
    if name in oracle["boxes"]:
        return oracle["boxes"][name]
    data = os.environ.get("MAMMO_DATA", os.path.join(shared, "data"))
    rows = json.load(open(os.path.join(data, "cbis-ddsm-800", "annotations.json")))["annotations"]
    rows.sort(key=lambda row: row["id"])
    boxes = [[round(v) for v in (x, y, x + w, y + h)] for x, y, w, h in (row["bbox"] for row in rows)]
    return [boxes[i] for i in oracle["cbis400_indices"]] if name == "cbis400" else boxes


boxes = numpy.array([box for box in load(options["boxes"]) if 0 not in box], dtype=float)
R, S, grid = options["ratios"], options["scales"], options["grid"]
sizes = numpy.array([32.0, 64, 128, 256, 512])
strides = [8, 16, 32, 64, 128]
width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
area = (width + 1) * (height + 1)
costs = {
    "focal": lambda m: -((1 - m) ** 2) * numpy.log(m),
    "avg": lambda m: 1 - m,
    "ce": lambda m: -numpy.log(m),
}
cost = costs[options["objective"]]


def shapes(x):
    """Widths and heights, [levels, R * S] each."""
    v = numpy.asarray(x[: R // 2])
    ratios = numpy.concatenate([[1.0], v, 1 / v])
    side = sizes[:, None, None] * numpy.asarray(x[R // 2 :])[None, None, :]
    w = side / numpy.sqrt(ratios)[None, :, None]
    return w.reshape(len(sizes), -1), (w * ratios[None, :, None]).reshape(len(sizes), -1)


def best_iou(inter_w, inter_h, anchor_area):
    inter = numpy.maximum(inter_w, 0) * numpy.maximum(inter_h, 0)
    return (inter / (area[:, None] + anchor_area - inter)).max(axis=1)


def centred(x):
    w, h = (a.ravel() for a in shapes(x))
    inter_w = numpy.minimum(width[:, None], w) + 1
    inter_h = numpy.minimum(height[:, None], h) + 1
    return float(cost(best_iou(inter_w, inter_h, (w + 1) * (h + 1))).mean())


def centres():
    extent = boxes[:, 3].max(), boxes[:, 2].max()
    for stride in strides:
        rows, columns = (int(numpy.ceil(e / stride)) for e in extent)
        y, x = numpy.meshgrid((numpy.arange(rows) + 0.5) * stride, (numpy.arange(columns) + 0.5) * stride, indexing="ij")
        yield x.ravel(), y.ravel()


places = list(centres()) if grid else []


def placed(x):
    w, h = shapes(x)
    best = numpy.zeros(len(boxes))
    for level, (cx, cy) in enumerate(places):
        left, right = ((cx[:, None] + sign * w[level] / 2).ravel() for sign in (-1, 1))
        top, bottom = ((cy[:, None] + sign * h[level] / 2).ravel() for sign in (-1, 1))
        inter_w = numpy.minimum(boxes[:, 2:3], right) - numpy.maximum(boxes[:, 0:1], left) + 1
        inter_h = numpy.minimum(boxes[:, 3:4], bottom) - numpy.maximum(boxes[:, 1:2], top) + 1
        best = numpy.maximum(best, best_iou(inter_w, inter_h, (right - left + 1) * (bottom - top + 1)))
    return float(cost(best).mean())


base = status("VmRSS")
seconds, values = [], []
for seed in range(int(options["count"])):
    start = time.process_time()
    result = differential_evolution(
        placed if grid else centred,
        [(1, 4)] * (R // 2) + [(0.4, 2)] * S,
        strategy="best1bin",
        popsize=15,
        mutation=0.5,
        recombination=0.7,
        maxiter=1000,
        tol=0.01,
        rng=seed,
    )
    seconds.append(time.process_time() - start)
    values.append(float(result.fun))
mean, middle = sum(seconds) / len(seconds), sorted(seconds)[len(seconds) // 2]
report([mean], base, {"value": min(values), "worst value": max(values), "evaluations": int(result.nfev), "first search, s": seconds[0], "median search, s": middle, "scipy": scipy.__version__, "numpy": numpy.__version__})
