"""pycocotools' evaluation of the detections of bench/trials/evaluate.ts: evaluate and accumulate; loading and indexing are not timed."""
import contextlib
import io
import time

import pycocotools.coco
import pycocotools.cocoeval

from plain import options, report, status, uniforms

images, per_image, lesions, classes = (options[k] for k in ("images", "detections", "lesions", "classes"))
u = uniforms(images * (6 * lesions + 6 * per_image))
place = 0


def take():
    global place
    place += 1
    return u[place - 1]


truth, detections = [], []
for image in range(images):
    own = []
    for _ in range(lesions):
        x, y = take() * 3000, take() * 4000
        w, h = 20 + 400 * take(), 20 + 400 * take()
        label = int(take() * classes)
        take()
        own.append((x, y, w, h, label))
        truth.append({"id": len(truth) + 1, "image_id": image, "category_id": label, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
    for i in range(per_image):
        a, b, c, d, e, score = (take() for _ in range(6))
        if i < 4 * lesions:
            x, y, w, h, label = own[i % lesions]
            box = [x + (a - 0.5) * w, y + (b - 0.5) * h, w * (0.7 + 0.6 * c), h * (0.7 + 0.6 * d)]
        else:
            box = [a * 3000, b * 4000, 20 + 400 * c, 20 + 400 * d]
            label = int(e * classes)
        detections.append({"image_id": image, "category_id": label, "bbox": box, "score": score})

base = status("VmRSS")
seconds = []
with contextlib.redirect_stdout(io.StringIO()):
    coco = pycocotools.coco.COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": k} for k in range(classes)],
        "annotations": truth,
        "info": {},
    }
    coco.createIndex()
    found = coco.loadRes(detections)
    for _ in range(int(options.get("count", 1))):
        run = pycocotools.cocoeval.COCOeval(coco, found, "bbox")
        start = time.perf_counter()
        run.evaluate()
        run.accumulate()
        seconds.append(time.perf_counter() - start)
    run.summarize()
report(seconds, base, {"AP": float(run.stats[0]), "AP50": float(run.stats[1]), "AR100": float(run.stats[8])})
