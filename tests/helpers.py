"""Builders that several tests share."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from skimage.metrics import structural_similarity

from actfer_env.data import Sample, load_dataset
from actfer_env.envs.registration import IDS
from actfer_env.rollout import Rollout, ToolCall
from actfer_env.tools import Alignment, FaceTools, ZoomConfig, geometry, zoom_in
from actfer_env.tools.align import TEMPLATE
from actfer_env.tools.detectors import Face

ROOT = Path(__file__).resolve().parents[1]
VERL_EXAMPLE = ROOT / "examples" / "verl_grpo"
VERL_CHECKS = ROOT / "benchmarks" / "verl"
PHOTOS = ("astronaut", "biden", "multi_face", "obama", "obama2", "obama_partial_face", "two_people")


def shared_path(*parts: str) -> Path:
    """Return a path in the shared folder, or skip the test: ACTFER_SHARED, else ../shared from the root."""
    folder = Path(os.environ.get("ACTFER_SHARED") or ROOT.parent / "shared")
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} of the shared folder, which is not part of the project")
    return path


def photo_path(stem: str) -> Path:
    """Return a test photo's file, or skip the test."""
    return next(shared_path("photos").glob(f"{stem}.*"))


@cache
def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    image.setflags(write=False)
    return image


def photo(stem: str) -> NDArray[np.uint8]:
    """Return a test photo as RGB uint8, or skip the test."""
    return _read(photo_path(stem)).copy()


# Noted by hand on the enlarged portrait: eye centres, nose tip, mouth corners.
ASTRONAUT_POINTS = np.array([[204.5, 103.0], [247.0, 104.0], [224.5, 130.0], [203.0, 140.5], [246.0, 143.0]])


class PortraitDetector:
    """Returns the hand-noted face of the portrait, or none, and counts its calls."""

    name = "noted"

    def __init__(self, faces=None):
        self.faces = [Face((180.0, 65.0, 270.0, 180.0), ASTRONAUT_POINTS, 0.99)] if faces is None else faces
        self.calls = 0

    def detect(self, image):
        self.calls += 1
        return list(self.faces)


def portrait_sample(**changes):
    """A labelled sample of the whole portrait."""
    fields = {"id": "astronaut", "source": astronaut(), "emotion": "happiness", "aus": frozenset({6, 12, 25})}
    return Sample(**{**fields, **changes})


@cache
def portraits():
    """The first twelve views of the portrait: good ones, poor ones, and one without a face that could be found."""
    return load_dataset("portrait", views=12)


@cache
def portrait_tools():
    """Tools that keep what MTCNN found in the portraits: each is searched once in a process, for all tests."""
    return FaceTools("mtcnn", zoom=ZoomConfig(size=48, stretch=True))


# --- the environments' ids

FLAT = ("ActFER-Discrete-v0", "ActFER-MultiDiscrete-v0")
every_id = pytest.mark.parametrize("env_id", sorted(IDS))


# --- what a policy writes in a conversation

DETECT = '<tool_call>{"name": "detect_align", "arguments": {}}</tool_call>'
ZOOM = '<tool_call>{"name": "zoom_in", "arguments": {"regions": ["nose"]}}</tool_call>'
ANSWER = '<answer>{"emotion": "fear", "aus": ["AU1", "AU2"]}</answer>'


# --- the command line


def actfer(*arguments, cwd=None, **env):
    """Run the command line in a process of its own, with these additions to the environment."""
    command = [sys.executable, "-m", "actfer_env", *map(str, arguments)]
    surroundings = {**os.environ, **env}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=surroundings, check=False)


def one_line(text):
    return len(text.strip().splitlines()) == 1 and text.startswith("actfer: ")


# --- pictures and files


def picture(path, value=90):
    """Write a grey picture of 40 rows and 30 columns, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 30, 3), value, np.uint8)).save(path)


def pictures(folder, *names):
    """Write pictures that differ."""
    for value, name in enumerate(names):
        picture(folder / name, value)
    return folder


def lines(path, *records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def broken_files(folder, portrait):
    jpeg = encoded(portrait, "JPEG")
    contents = {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "broken image"),
        "text.png": (b"this is a text\n", "not an image"),
        "empty.jpg": (b"", "empty file"),
        "bomb.png": (png_header(30_000, 30_000), "64,000,000 pixels"),
        "large.png": (png_header(9_000, 9_000), "64,000,000 pixels"),
        "tiny.png": (encoded(portrait.resize((8, 8)), "PNG"), "too small"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    return {name: reason for name, (_, reason) in contents.items()}


# --- how much a zoom shows


def whole_pixel_setting(image, centre, side, box):
    """An upright alignment and a box whose edges lie on whole pixels, so that a plain slice is the same region."""
    x, y = centre[0] - side / 2, centre[1] - side / 2
    transform = np.array([[1 / side, 0, -x / side], [0, 1 / side, -y / side]])
    points = geometry.apply(geometry.invert(transform), TEMPLATE.points)
    alignment = Alignment(transform, points, (x, y, x + side, y + side), 1.0, 1, 0, image.shape[1::-1])
    x1, y1 = np.round(alignment.to_original(box)[0]).astype(int)
    x2, y2 = np.round(alignment.to_original(box)[2]).astype(int)
    return alignment, (x1, y1, x2, y2), np.concatenate(geometry.apply(transform, [[x1, y1], [x2, y2]]))


def compare(image, centre, side, box, face_size=64, crop_size=48):
    """SSIM against an INTER_AREA reference: of the zoom, and of the region enlarged from the aligned face."""
    alignment, (x1, y1, x2, y2), box = whole_pixel_setting(image, centre, side, box)
    size = (crop_size, crop_size)
    reference = cv2.resize(image[y1:y2, x1:x2], size, interpolation=cv2.INTER_AREA)
    (crop,) = zoom_in(image, alignment, boxes=[box], config=ZoomConfig(size=crop_size, stretch=True))
    face = alignment.draw(image, face_size)
    to_crop = geometry.box_to_transform(np.array(box) * face_size, *size)
    to_crop[:, 2] += to_crop[:, :2].sum(1) * 0.5 - 0.5
    enlarged = cv2.warpAffine(face, to_crop, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return (structural_similarity(reference, crop.image, channel_axis=2),
            structural_similarity(reference, enlarged, channel_axis=2))  # fmt: skip


REGION_BOXES = [(0.24, 0.12, 0.76, 0.38), (0.24, 0.3, 0.76, 0.54), (0.38, 0.38, 0.62, 0.62), (0.3, 0.58, 0.7, 0.95)]


# --- rollouts and groups

ZOOM_CALL = ToolCall("zoom_in", {"regions": ["nose"]}, boxes=((0.3, 0.3, 0.7, 0.7),))


def broken(*violations: str) -> tuple[ToolCall, ...]:
    return tuple(ToolCall("zoom_in", violation=name) for name in violations)


def answered(predicted: str | None = "happiness", *, zoomed: bool = False, **changes: Any) -> Rollout:
    """A rollout of one happy sample without AU target, detection ok; `changes` replace fields."""
    values: dict[str, Any] = {
        "sample_id": "s0", "group_id": "g0", "emotion": "happiness", "aus": None,
        "predicted_emotion": predicted, "predicted_aus": None,
        "tool_calls": (ZOOM_CALL,) if zoomed else (), "detection": "ok",
    }  # fmt: skip
    return Rollout(**{**values, **changes})


def right(**changes: Any) -> Rollout:
    return answered("happiness", **changes)


def wrong(**changes: Any) -> Rollout:
    return answered("anger", **changes)


def aus(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def benchmark(name: str) -> ModuleType:
    """A module of benchmarks/, which is no package that is installed."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.append(str(ROOT))  # for its neighbours, and no longer: else the bare package would be found here
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT))
    return module
