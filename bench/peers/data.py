"""Prepare images with pydicom, Pillow, numpy and SciPy in a pool of processes.

MAMMO_PEER_WORK=all: what ours does, as one writes it with these libraries: hash the file, decode, find the breast on block means
(half of Otsu's threshold, opening, largest component, holes), crop, statistics over the non-zero pixels, difference hashes, hash of the
pixels, uint16 file synced to disk. Otherwise decoding, statistics and the file only.
"""
import hashlib
import json
import multiprocessing
import os
import resource
import tempfile
import time

import numpy
import PIL
import PIL.Image
import pydicom
import scipy.ndimage
from plain import options, status

root = os.environ.get("MAMMO_DATA") or os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared", "data")
source = os.path.join(root, options["folder"])
files = sorted(os.path.join(source, name) for name in os.listdir(source) if name.endswith(options["ending"])) * int(options.get("repeat", 1))


EVERYTHING = os.environ.get("MAMMO_PEER_WORK") == "all"


def block_means(pixels, side):
    height, width = pixels.shape
    padded = numpy.pad(pixels, ((0, -height % side), (0, -width % side)), mode="edge") if height % side or width % side else pixels
    sums = padded.reshape(padded.shape[0] // side, side, -1, side).sum(axis=(1, 3), dtype=numpy.uint32)
    return sums // (side * side)


def otsu(values, bins=4096):
    cap = max(1, numpy.percentile(values, 99))
    counts, edges = numpy.histogram(numpy.minimum(values, cap), bins=bins, range=(0, cap))
    below = numpy.cumsum(counts)
    sums = numpy.cumsum(counts * numpy.arange(bins))
    total, mean = below[-1], sums[-1] / below[-1]
    with numpy.errstate(divide="ignore", invalid="ignore"):
        between = (mean * below - sums) ** 2 / (below * (total - below))
    return edges[numpy.nanargmax(between) + 1]


def breast(pixels):
    height, width = pixels.shape
    side = 4 if max(height, width) < 1024 else 8
    means = block_means(pixels, side)
    mask = scipy.ndimage.binary_opening(means >= max(1, otsu(means) / 2), numpy.ones((3, 3)))
    labels, count = scipy.ndimage.label(mask)
    if count == 0:
        return 0, 0, width, height
    mask = scipy.ndimage.binary_fill_holes(labels == 1 + numpy.argmax(numpy.bincount(labels.ravel())[1:]))
    rows, columns = numpy.flatnonzero(mask.any(axis=1)), numpy.flatnonzero(mask.any(axis=0))
    y1, y2, x1, x2 = rows[0] * side, (rows[-1] + 1) * side, columns[0] * side, (columns[-1] + 1) * side
    margin_y, margin_x = int(0.03 * (y2 - y1)) + 1, int(0.03 * (x2 - x1)) + 1
    return max(0, x1 - margin_x), max(0, y1 - margin_y), min(width, x2 + margin_x), min(height, y2 + margin_y)


def difference_hash(pixels):
    bits = []
    for rows, columns in ((8, 9), (9, 8)):
        ys = numpy.linspace(0, pixels.shape[0], rows + 1).astype(int)[:-1]
        xs = numpy.linspace(0, pixels.shape[1], columns + 1).astype(int)[:-1]
        cells = numpy.add.reduceat(numpy.add.reduceat(pixels, ys, axis=0, dtype=numpy.uint64), xs, axis=1)
        bits.append(numpy.diff(cells.astype(numpy.int64), axis=1 if columns == 9 else 0) < 0)
    return bits


def everything(path, pixels, target):
    with open(path, "rb") as file:
        source = hashlib.sha256(file.read()).hexdigest()
    x1, y1, x2, y2 = breast(pixels)
    crop = numpy.ascontiguousarray(pixels[y1:y2, x1:x2])
    values = crop[crop != 0].astype(numpy.int64)
    sums = values.size, int(values.sum()), int((values * values).sum())
    difference_hash(crop)
    digest = hashlib.sha256(crop).hexdigest()
    with open(target + ".tmp", "wb") as file:
        crop.tofile(file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(target + ".tmp", target)
    return sums, source, digest


def prepare(job):
    path, target = job
    try:
        if path.endswith(".dcm"):
            pixels = pydicom.dcmread(path).pixel_array
        else:
            pixels = numpy.asarray(PIL.Image.open(path).convert("L"))
    except Exception as error:
        return os.path.basename(path) + ": " + type(error).__name__
    pixels = pixels.astype(numpy.uint16)
    if EVERYTHING:
        return everything(path, pixels, target)
    values = pixels[pixels != 0].astype(numpy.int64)
    sums = values.size, int(values.sum()), int((values * values).sum())
    pixels.tofile(target)
    return sums


if __name__ == "__main__":
    base = status("VmRSS")
    seconds, failed = [], []
    workers = int(options["threads"])
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(path, os.path.join(folder, f"{n}.u16")) for n, path in enumerate(files)]
        for run in range(1 + int(options.get("count", 3))):
            start = time.perf_counter()
            with multiprocessing.Pool(workers) as pool:
                results = pool.map(prepare, jobs, chunksize=1)
            if run > 0:
                seconds.append(time.perf_counter() - start)
            failed = [result for result in results if isinstance(result, str)]
    middle = sorted(seconds)[len(seconds) // 2]
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    done = len(jobs) - len(failed)
    extra = {"images": done, "images/s": done / middle, "pydicom": pydicom.__version__, "Pillow": PIL.__version__}
    if failed:
        extra["not decoded"] = ", ".join(failed)
    print(json.dumps({"seconds": seconds, "peakBytes": status("VmHWM") + workers * child, "baseBytes": base, "extra": extra}))
