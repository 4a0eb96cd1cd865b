"""What peers with torch share: threads, timing, memory, the JSON line that bench/main.ts reads."""
import json
import os
import sys
import time

import torch
import torchvision
from plain import options, status

torch.set_num_threads(int(options["threads"]))


# See `now` in bench/statistics.ts.
clock = time.process_time if os.environ.get("MAMMO_BENCH_CLOCK") == "processor" else time.perf_counter


def reset_peak():
    """The kernel's high-water mark starts again from the present size."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def measure(work, warmup, count, limit=60.0, extra=None):
    """Times `work` as bench/statistics.ts does and prints the measurement."""
    reset_peak()
    base = status("VmRSS")
    for _ in range(warmup):
        work()
    seconds = []
    end = time.perf_counter() + limit
    while len(seconds) < count and (len(seconds) < min(3, count) or time.perf_counter() < end):
        start = clock()
        work()
        seconds.append(clock() - start)
    report(seconds, extra, base)


def report(seconds, extra=None, base=0):
    """Prints the measurement and ends the process without running destructors."""
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    print(json.dumps({"seconds": seconds, "peakBytes": status("VmHWM"), "baseBytes": base, "extra": {**versions, **(extra or {})}}))
    sys.stdout.flush()
    os._exit(0)
