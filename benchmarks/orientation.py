"""Right, missed and wrong faces in turned photos, and processor time, with and without looks at turned copies.

python benchmarks/orientation.py my_photos/                                  # mtcnn
python benchmarks/orientation.py my_photos/ --detector yunet:yunet.onnx --detector insightface:scrfd.onnx -n 150

Truth is what the detector finds in the photo as it is: its largest face there, turned with the photo. A face is right
where its landmarks lie within a quarter of the eyes' distance of it, on average. "sure" counts those wrong faces that
the result does not call uncertain. Both sides see every turned photo, one after the other.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
from importlib import metadata

import cv2
import numpy as np

from actfer_env.errors import ImageError
from actfer_env.tools import find_images, geometry, load_image, make_detector
from actfer_env.tools.align import Alignment, align
from actfer_env.tools.detectors import Detector
from actfer_env.tools.orientation import UnturnedDetector, find_faces

ANGLES = (0, 90, 180, 270, 30, 45)
RIGHT = 0.25
"""Largest mean error of the landmarks, as a share of the distance between the eyes."""


def turned(image: np.ndarray, angle: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture turned clockwise about its middle, grey where it was not, and the transform (2, 3)."""
    height, width = image.shape[:2]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    corners = geometry.apply(matrix, geometry.corners((0, 0, width, height)))
    matrix[:, 2] = -corners.min(0)
    size = np.round(np.ptp(corners, axis=0)).astype(int).tolist()
    if angle % 90 == 0:
        return np.ascontiguousarray(np.rot90(image, -angle // 90)), matrix
    centred = matrix.copy()  # OpenCV's pixel centres lie at whole numbers
    centred[:, 2] += centred[:, :2].sum(1) * 0.5 - 0.5
    return cv2.warpAffine(image, centred, size, borderValue=(127, 127, 127)), matrix


def look(detector: Detector, image: np.ndarray) -> tuple[Alignment | None, float]:
    start = time.process_time()
    found = align(find_faces(detector, image), (image.shape[1], image.shape[0]))
    return found, (time.process_time() - start) * 1000


def judge(found: Alignment | None, truth: np.ndarray) -> str:
    if found is None:
        return "missed"
    error = np.linalg.norm(found.landmarks - truth, axis=1).mean() / np.linalg.norm(truth[1] - truth[0])
    return "right" if error < RIGHT else "sure" if found.certain else "unsure"


def measure(spec: str, photos: list[np.ndarray]) -> None:
    sides = {"as it is": UnturnedDetector(spec), "with turns": make_detector(spec)}
    truths = [look(sides["as it is"], photo)[0] for photo in photos]
    kept = [(photo, one.landmarks) for photo, one in zip(photos, truths, strict=True) if one]
    print(f"\n{spec.rpartition('/')[2]}: {len(kept)} of {len(photos)} photos show a face as they are")
    print(f"{'angle':>5}  {'side':10}  right  missed  wrong (of these sure)  median ms   mean ms")
    for angle in ANGLES:
        verdicts: dict[str, list[str]] = {name: [] for name in sides}
        times: dict[str, list[float]] = {name: [] for name in sides}
        for photo, points in kept:
            picture, matrix = turned(photo, angle)
            for name, detector in sides.items():
                found, elapsed = look(detector, picture)
                verdicts[name].append(judge(found, geometry.apply(matrix, points)))
                times[name].append(elapsed)
        for name, seen in verdicts.items():
            sure, unsure = seen.count("sure"), seen.count("unsure")
            print(f"{angle:5}  {name:10}  {seen.count('right'):5}  {seen.count('missed'):6}  {sure + unsure:5} ({sure})"
                  f"  {'':12}{statistics.median(times[name]):9.1f}  {statistics.fmean(times[name]):8.1f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="upright photos")
    parser.add_argument("--detector", action="append", help="a detector's spec; may be given again")
    parser.add_argument("-n", type=int, default=150, help="photos, drawn at random")
    parser.add_argument("--long-side", type=int, default=640, help="pixels to which larger photos are shrunk first")
    args = parser.parse_args()
    paths = find_images(args.folder)
    photos = []
    for path in random.Random(0).sample(paths, min(args.n, len(paths))):
        try:
            photo = load_image(path)
        except ImageError as error:
            print(error)
            continue
        scale = args.long_side / max(photo.shape[:2])
        photos.append(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else photo)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("actfer-env", "numpy", "opencv-python"))
    print(f"{platform.machine()}, {cv2.getNumberOfCPUs()} cores, Python {platform.python_version()}, {versions}")
    for spec in args.detector or ["mtcnn"]:
        measure(spec, photos)


if __name__ == "__main__":
    main()
