"""The lines that bench/gpu.sh collected as a table on the screen and one result file: gpu_report.py LINES OUT. Needs no torch."""
import json
import sys

lines, out = sys.argv[1:3]
with open(lines) as file:
    records = [json.loads(line) for line in file if line.strip()]
facts, rows = records[0], records[1:]
products = [row for row in rows if row.get("work") == "matmul" and "tflops" in row]
peak = max((row["tflops"] for row in products), default=None)

for row in rows:
    if peak and "tflops" in row and row["work"] != "matmul":
        row["shareOfMatmul"] = row["tflops"] / peak
ours = {row["trial"]: row for row in rows if row["side"] == "mammo-retinanet" and "imagesPerSecond" in row}
head = ["trial", "side", "img/s", "TFLOP/s", "share of matmul", "peak memory", "ours / it"]
body = []
for row in rows:
    if "error" in row:
        body.append([row["trial"], row["side"], row["error"], "", "", "", ""])
        continue
    mine = ours.get(row["trial"])
    ratio = f'{mine["imagesPerSecond"] / row["imagesPerSecond"]:.2f}x' if mine and mine is not row and "imagesPerSecond" in row else ""
    rate = f'{row["imagesPerSecond"]:.2f}' if "imagesPerSecond" in row else ""
    share = f'{row["shareOfMatmul"]:.3f}' if "shareOfMatmul" in row else ""
    memory = f'{row["peakBytes"] / 2**30:.2f} GiB' if row.get("peakBytes") else ""
    body.append([row["trial"], row["side"], rate, f'{row["tflops"]:.3f}', share, memory, ratio])
widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
for line in [head, ["-" * width for width in widths], *body]:
    print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")
with open(out, "w") as file:
    json.dump({"schema": "mammo-retinanet/bench-gpu@1", **facts, "matmulTflops": peak, "rows": rows}, file, indent=1)
    file.write("\n")
print(f"written to {out}")
