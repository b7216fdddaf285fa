"""Draw the samples once and keep what the measurements need as arrays.

"practice" is a further training set for the reader of Action Units: people and scenes of the train split, pictures of
quality "good", each unit active with the same chance whatever the emotion, as strongly as in the preset. Emotions
hardly ever show some units.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from joblib import Parallel, delayed

from actfer_env import facs
from actfer_env.data import Sample, load_dataset
from actfer_env.data.synthetic.faces import Expression, Identity, RenderedScene, render_scene
from actfer_env.data.synthetic.presets import PRESETS, SyntheticConfig
from actfer_env.data.synthetic.samples import Spec, draw_spec
from actfer_env.images import RGB
from actfer_env.tools import FaceTools
from actfer_env.tools.align import Alignment
from actfer_env.tools.sampling import sample_box
from actfer_env.tools.zoom import ZoomConfig, crop_box

FRAME = 192
"""Side of the aligned face whose middle is kept as the native view."""
NATIVE_SIZE = (112, 168)
NATIVE_BOX = (5 / 24, 1 / 12, 19 / 24, 23 / 24)
"""The native view in the aligned frame; `NATIVE_SIZE` pixels of `FRAME`."""
SMALL, COARSE = 48, 64
ZOOM = ZoomConfig(size=48, stretch=True)
PRACTICE = 10_000_000
"""First index of the practice scenes."""
CLASHES = ({5, 43}, {7, 43}, {24, 25}, {24, 26}, {23, 24}, {17, 26}, {12, 15}, {12, 24}, {20, 23}, {10, 24})
"""Units that a face cannot show together."""
SHAPE = ("width", "jaw", "eye_size", "lip_upper", "age")

SHAPES: dict[str, tuple[tuple[int, ...], str]] = {
    "native": ((NATIVE_SIZE[1], NATIVE_SIZE[0], 3), "u1"), "small": ((SMALL, SMALL, 3), "u1"),
    "coarse": ((COARSE, COARSE, 3), "u1"),
    "aus": ((len(facs.CORE_AUS),), "?"), "strength": ((len(facs.CORE_AUS),), "f4"), "emotion": ((), "i4"),
    "quality": ((), "U4"), "found": ((), "?"), "identity": ((), "i4"), "tone": ((), "i4"),
    "shape": ((len(SHAPE),), "f4"), "regions": ((4, 4), "f4"), "faces": ((), "i4"), "score": ((), "f4"),
    "side": ((), "i4"), "bytes": ((2,), "f4"), "statistics": ((12,), "f4"), "box": ((4,), "f4"),
    "scale": ((), "f4"), "landmarks": ((5, 2), "f4"),
}  # fmt: skip


def shapes(zoom: ZoomConfig) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return each array's shape for one sample, and its type."""
    return SHAPES | {"crops": ((len(facs.REGIONS), zoom.size, zoom.size, 3), "u1")}


def native_view(image: RGB, alignment: Alignment) -> RGB:
    return sample_box(image, alignment.transform, NATIVE_BOX, NATIVE_SIZE)


def small_view(face: RGB) -> RGB:
    """Blow a small aligned face up to the native view's frame and cut the same box."""
    full = cv2.resize(face, (FRAME, FRAME), interpolation=cv2.INTER_CUBIC)
    x, y = round(NATIVE_BOX[0] * FRAME), round(NATIVE_BOX[1] * FRAME)
    return full[y : y + NATIVE_SIZE[1], x : x + NATIVE_SIZE[0]]


def statistics(image: RGB) -> np.ndarray:
    """Global statistics: mean, deviation, and the 10th and 90th percentile of each channel, over every 4th row."""
    mean, deviation = (np.asarray(value).ravel() for value in cv2.meanStdDev(image))
    flat = image[::4].reshape(-1, 3)
    return np.concatenate([mean, deviation, *np.percentile(flat, [10, 90], axis=0)])


def practice_spec(config: SyntheticConfig, number: int) -> Spec:
    """Return a good train scene, beyond those of the split, whose face shows units drawn one by one."""
    rng = np.random.default_rng([PRACTICE, number])
    spec = next(s for s in (draw_spec(config, "train", PRACTICE + 64 * number + i) for i in range(64))
                if s.quality == "good")  # fmt: skip
    active = {au for au in facs.CORE_AUS if rng.random() < 0.2}
    for pair in CLASHES:
        if pair <= active:
            active.discard(sorted(pair)[int(rng.integers(2))])
    if 26 in active:
        active.add(25)
    sides: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for au in sorted(active):
        value = rng.uniform(*PRESETS[config.preset].intensity)
        both = au not in (12, 14) or rng.random() < 0.6
        for side in (0, 1) if both else (int(rng.integers(2)),):
            sides[side][au] = float(np.clip(value + 0.2 * rng.normal(), 1, 5))
    *others, person = spec.scene.people
    expression = Expression(*sides, spec.expression.gaze)
    people = (*others, replace(person, expression=expression))
    return replace(spec, expression=expression, scene=replace(spec.scene, people=people))


@lru_cache(maxsize=1)
def practice_scene(config: SyntheticConfig, number: int) -> RenderedScene:
    return render_scene(practice_spec(config, number).scene)


class Practice(Sequence[Sample]):
    """The practice set, drawn when it is looked at."""

    def __init__(self, config: SyntheticConfig, count: int) -> None:
        self.config, self.count = config, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: Any) -> Sample:
        return Sample(
            id=f"practice-{number:06d}", source=lambda: np.asarray(practice_scene(self.config, number).image),
            emotion="neutral", split="practice", annotate=lambda: practice_scene(self.config, number).faces,
        )  # fmt: skip


def read(sample: Sample, tools: FaceTools, config: SyntheticConfig) -> dict[str, Any]:
    image = tools.image(sample)
    bgr = image[..., ::-1]
    coded = [len(cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]),
             len(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])]  # fmt: skip
    split, index = str(sample.split), int(sample.id.rpartition("-")[2])
    spec = practice_spec(config, index) if split == "practice" else draw_spec(config, split, index)
    who: Identity = spec.scene.people[-1].identity
    alignment = tools.alignment(sample)
    sides = (spec.expression.left, spec.expression.right)
    row: dict[str, Any] = {
        "aus": [au in spec.aus for au in facs.CORE_AUS], "emotion": facs.EMOTIONS.index(spec.emotion),
        "strength": [max(side.get(au, 0.0) for side in sides) for au in facs.CORE_AUS],
        "quality": spec.quality, "found": alignment is not None, "identity": spec.identity, "tone": who.tone,
        "shape": [getattr(who, name) for name in SHAPE], "side": image.shape[0], "bytes": coded,
        "statistics": statistics(image),
    }  # fmt: skip
    return row if alignment is None else row | pictures(image, alignment, tools.zoom)


def pictures(image: RGB, alignment: Alignment, zoom: ZoomConfig) -> dict[str, Any]:
    boxes = alignment.regions
    return {
        "native": native_view(image, alignment), "small": alignment.draw(image, SMALL),
        "coarse": alignment.draw(image, COARSE), "faces": alignment.faces, "score": alignment.score,
        "crops": np.stack([crop_box(image, alignment, boxes[name], name, zoom).image for name in facs.REGIONS]),
        "regions": [boxes[name] for name in facs.REGIONS], "box": alignment.box,
        "scale": np.hypot(*(alignment.landmarks[1] - alignment.landmarks[0])), "landmarks": alignment.landmarks,
    }  # fmt: skip


def draw(samples: Sequence[Sample], folder: Path, config: SyntheticConfig, zoom: ZoomConfig, workers: int) -> None:
    """Draw samples and keep them; workers take every so-manieth one and write into the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, kind) in shapes(zoom).items():
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (len(samples), *shape))
    start = time.perf_counter()
    shares = (
        delayed(fill)(samples, range(first, len(samples), workers), folder, config, zoom) for first in range(workers)
    )
    Parallel(n_jobs=workers, backend="multiprocessing")(shares)
    print(f"{folder.name}: {len(samples) / (time.perf_counter() - start):.0f} samples/s", flush=True)


def fill(samples: Sequence[Sample], numbers: range, folder: Path, config: SyntheticConfig, zoom: ZoomConfig) -> None:
    cv2.setNumThreads(1)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in shapes(zoom)}
    tools = FaceTools("simulated", zoom=zoom)
    for i in numbers:
        for name, value in read(samples[i], tools, config).items():
            arrays[name][i] = value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    for split, count in (("train", 12_000), ("val", 1_500), ("test", 3_500)):
        parser.add_argument(f"--{split}", type=int, default=count, help="samples; 0 leaves the split alone")
    parser.add_argument("--practice", type=int, default=6_400, help="faces to practise Action Units on")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="standard", help="what is drawn")
    parser.add_argument("--emotions", choices=("balanced", "prior"), default="balanced")
    parser.add_argument("--crop", type=int, choices=(48, 96, 144), default=ZOOM.size, help="side of a crop, pixels")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    config, zoom = SyntheticConfig(preset=args.preset, emotions=args.emotions), replace(ZOOM, size=args.crop)
    if args.practice:
        draw(Practice(config, args.practice), args.cache / "practice", config, zoom, args.workers)
    for split in ("val", "train", "test"):
        if count := getattr(args, split):
            samples = load_dataset("synthetic", split=split, n=count, preset=args.preset, emotions=args.emotions)
            draw(samples, args.cache / split, config, zoom, args.workers)


if __name__ == "__main__":
    main()
