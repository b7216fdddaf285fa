"""Small labelled pictures for curation: each of its own, with known subjects and near-duplicates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from actfer_env import facs
from actfer_env.images import RGB
from actfer_env.tools import register_detector
from actfer_env.tools.detectors import Face

SMALL = {"image_side": 64, "face_side": 64, "crop_side": 64}


class Middle:
    """Finds a face in the middle of every picture but dark ones."""

    name = "curate-middle"

    def detect(self, image: RGB) -> list[Face]:
        if image.mean() < 20:
            return []
        height, width = image.shape[:2]
        points = np.array([[0.4, 0.42], [0.6, 0.42], [0.5, 0.55], [0.43, 0.68], [0.57, 0.68]])
        return [Face((0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height), points * [width, height], 0.99)]


register_detector("curate-middle", Middle, replace=True)


def scribble(rng: np.random.Generator, dark: bool = False) -> Image.Image:
    """A picture with coarse structure, unlike any other."""
    coarse = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)
    return image.point(lambda value: value // 16) if dark else image


def write_set(
    folder: Path, count: int, *, subjects: int = 0, copies: int = 0, dark: int = 0, units: bool = True,
    labels: tuple[str, ...] = facs.EMOTIONS, seed: int = 0,
) -> Path:  # fmt: skip
    """Write a .jsonl file of `count` pictures, of which the last `copies` are brighter copies of the first ones.

    Args:
        folder: Folder to write.
        count: Lines.
        subjects: People, in turn; 0 names none.
        copies: Near-duplicates.
        dark: Pictures, from the first on, in which no face is found.
        units: Whether Action Units are labelled.
        labels: Emotions, in turn.
        seed: Seed of the pictures.
    """
    rng, rows = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    made = [scribble(rng, dark=number < dark) for number in range(count - copies)]
    made += [
        made[number].filter(ImageFilter.GaussianBlur(0.4)).point(lambda v: min(v + 6, 255)) for number in range(copies)
    ]
    for number, image in enumerate(made):
        image.save(folder / f"{number}.png")
        emotion = labels[number % len(labels)]
        row = {"id": f"face-{number}", "image": f"{number}.png", "labels": [emotion]}
        if units:
            row["AUs"] = [facs.format_au(unit) for unit in sorted(facs.prototype_aus(emotion))]
        if subjects:
            row["meta_info"] = {"subject": f"person-{number % subjects}"}
        rows.append(row)
    path = folder / "faces.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path
