"""Decode images, take statistics over the non-zero pixels, write uint16: pydicom, Pillow and numpy in a pool of processes. No breast crop, no hashes."""
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time

import numpy
import PIL
import PIL.Image
import pydicom

options = json.loads(sys.argv[1])
root = os.environ.get("MAMMO_DATA") or os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared", "data")
source = os.path.join(root, options["folder"])
files = sorted(os.path.join(source, name) for name in os.listdir(source) if name.endswith(options["ending"]))


def status(field):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


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
