"""What peers without torch share: options from argv, memory, the JSON line that bench/main.ts reads."""
import json
import sys

options = json.loads(sys.argv[1])


def status(field):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def uniforms(count, seed=1):
    """The numbers of bench/trials/op.ts: x = x * 1664525 + 1013904223 mod 2^32, the upper 24 bits over 2^24."""
    values = [0.0] * count
    x = seed
    for i in range(count):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        values[i] = (x >> 8) / 2**24
    return values


def report(seconds, base, extra):
    print(json.dumps({"seconds": seconds, "peakBytes": status("VmHWM"), "baseBytes": base, "extra": extra}))
