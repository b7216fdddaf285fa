"""`actfer inspect`: the tools alone, on images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actfer_env import facs
from actfer_env.data import Sample
from actfer_env.episode import Episode
from actfer_env.errors import DataError
from actfer_env.render import Panel
from actfer_env.tools import FaceTools, ZoomConfig
from actfer_env.tools.align import FaceChoice
from actfer_env.tools.image import save_png


def parse_face(text: str) -> FaceChoice:
    """Return the face choice that a command-line argument stands for.

    Raises:
        DataError: it is neither "largest", nor an index, nor a point.
    """
    if text == "largest":
        return "largest"
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    if len(numbers) == 1 and numbers[0] >= 0 and numbers[0].is_integer():
        return int(numbers[0])
    raise DataError(f"--face {text!r}: use 'largest', an index such as 1, or a point such as 310,120")


def make_tools(detector: str, size: int, face: FaceChoice) -> FaceTools:
    """Return tools for looking at single images; `size` is the long side of crops in pixels."""
    return FaceTools(detector, zoom=ZoomConfig(size=size), face=face)


def picture_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each image's picture: its stem, with a number where an earlier one has the same stem."""
    seen: Counter[str] = Counter()
    names = []
    for path in paths:
        seen[path.stem] += 1
        names.append(path.stem if seen[path.stem] == 1 else f"{path.stem}-{seen[path.stem]}")
    return names


def inspect_image(path: Path, tools: FaceTools, out: Path, name: str | None = None) -> dict[str, Any]:
    """Detect, align and zoom into all four regions of one image, and write the picture of it.

    Args:
        path: the image.
        tools: see `make_tools`.
        out: folder for the pictures.
        name: of the picture, without its ending; default is the image's stem.

    Returns:
        JSON values: the image, what detect_align and zoom_in returned, and the picture's path.

    Raises:
        ImageError: the image cannot be read.
        DetectorError: the detector lacks its extra or weights, or there is no such face.
        DataError: the picture cannot be written.
    """
    episode = Episode(Sample(id=path.name, source=path, meta={"dataset": "photos", "image": str(path)}), tools)
    found = episode.detect_align()
    crops = episode.zoom_in(list(facs.REGIONS)).crops if found.alignment else ()
    picture = out / f"{name or path.stem}.inspect.png"
    save_png(Panel().draw(episode), picture)
    return {
        "image": str(path),
        "found": found.alignment is not None,
        **(episode.calls[0].result),
        "crops": [crop.to_dict() for crop in crops],
        "picture": str(picture),
    }
