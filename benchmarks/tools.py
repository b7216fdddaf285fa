"""Milliseconds of detect_align and zoom_in beside the bare library calls on the same image, by turns in one run.

python benchmarks/tools.py                                     # mtcnn on the astronaut portrait
python benchmarks/tools.py --zoom                              # zoom_in of four regions alone
python benchmarks/tools.py --image photo.jpg --scrfd scrfd_500m_bnkps.onnx --yunet yunet.onnx
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from machine import describe

from actfer_env import facs
from actfer_env.data.portrait import portrait
from actfer_env.tools import detect_align, load_image, make_detector, zoom_in
from actfer_env.tools.align import align

LONG_SIDE = 640
PAUSE, WARM_UP, BLOCK = 0.05, 2, 5
"""Seconds before a block, calls of it that are not timed, and calls that are: so the spinning threads of one side's
runtime, and the caches that it has filled, do not count against the other."""


def by_turns(
    sides: dict[str, Callable[[], Any]], repeats: int, of: Callable[[list[float]], Any] = statistics.median
) -> dict[str, Any]:
    """Return the median milliseconds of each side; the sides alternate in blocks, so that drift meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats // BLOCK):
        for name, run in sides.items():
            time.sleep(PAUSE)
            times[name] += [milliseconds(run) for _ in range(WARM_UP + BLOCK)][WARM_UP:]
    return {name: of(values) for name, values in times.items()}


def milliseconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def bare_scrfd(path: str, image: np.ndarray, folder: Path) -> Callable[[], Any]:
    from insightface.app import FaceAnalysis

    (folder / Path(path).name).symlink_to(Path(path).resolve())
    app = FaceAnalysis(str(folder), allowed_modules=["detection"], providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=-1, det_size=(640, 640))
    bgr = image[..., ::-1].copy()
    return lambda: app.get(bgr)


def bare_yunet(path: str, image: np.ndarray) -> Callable[[], Any]:
    detector = cv2.FaceDetectorYN.create(path, "", (image.shape[1], image.shape[0]), 0.6)
    bgr = image[..., ::-1].copy()
    return lambda: detector.detect(bgr)


def detection(args: argparse.Namespace, image: np.ndarray, folder: Path) -> None:
    mtcnn = make_detector("mtcnn")
    rows = {"mtcnn": (mtcnn, lambda: mtcnn.detect(image))}
    if args.scrfd:
        rows["insightface"] = (make_detector(f"insightface:{args.scrfd}"), bare_scrfd(args.scrfd, image, folder))
    if args.yunet:
        rows["yunet"] = (make_detector(f"yunet:{args.yunet}"), bare_yunet(args.yunet, image))
    for name, (detector, bare) in rows.items():
        ours = lambda detector=detector: detect_align(image, detector)  # noqa: E731
        result = by_turns({"bare": bare, "ours": ours}, args.repeats)
        print(f"detect_align  {name:12} bare {result['bare']:7.2f} ms   ours {result['ours']:7.2f} ms   "
              f"ratio {result['ours'] / result['bare']:.3f}")  # fmt: skip


def zooming(args: argparse.Namespace, image: np.ndarray) -> None:
    alignment = align(make_detector("mtcnn").detect(image), (image.shape[1], image.shape[0]))
    assert alignment is not None, "no face in the image"
    slices, warps = [], []
    for crop in zoom_in(image, alignment, list(facs.REGIONS)):
        quad = alignment.to_original(crop.box)
        (x1, y1), (x2, y2) = np.maximum(quad.min(0), 0).astype(int), quad.max(0).astype(int)
        size = (crop.image.shape[1], crop.image.shape[0])
        slices.append((image[y1:y2, x1:x2], size))
        corners = np.array([[0, 0], [size[0], 0], [size[0], size[1]]], np.float32)
        warps.append((cv2.getAffineTransform(quad[:3].astype(np.float32), corners), size))
    sides = {
        "zoom_in of four regions": lambda: zoom_in(image, alignment, list(facs.REGIONS)),
        "cv2.warpAffine, four times": lambda: [cv2.warpAffine(image, matrix, size) for matrix, size in warps],
        "cv2.resize, four times": lambda: [cv2.resize(part, size) for part, size in slices],
    }
    result = by_turns(sides, args.repeats, lambda values: (statistics.median(values), min(values)))
    ours, least = result["zoom_in of four regions"]
    for name, (value, quickest) in result.items():
        print(f"{name:28} {value:7.3f} ms   over it {ours - value:+.3f} ms   ratio {ours / value:.2f}   "
              f"quickest calls {quickest:.3f} ms, ratio {least / quickest:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="default: the astronaut portrait")
    parser.add_argument("--scrfd", help="an InsightFace detector, .onnx")
    parser.add_argument("--yunet", help="YuNet, .onnx")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--zoom", action="store_true", help="measure zoom_in alone")
    args = parser.parse_args()
    image = load_image(args.image) if args.image else portrait()
    scale = LONG_SIDE / max(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    print(describe("actfer-env", "numpy", "opencv-python"))
    print(f"image {image.shape[1]} x {image.shape[0]}, median of {args.repeats} runs by turns")
    with tempfile.TemporaryDirectory() as folder:
        if not args.zoom:
            detection(args, image, Path(folder))
    zooming(args, image)


if __name__ == "__main__":
    main()
