"""The pictures of a stored episode, redrawn from its source image with the stored transform and boxes.

No detector runs here, so the pictures show what happened, whatever is installed today.
"""

from __future__ import annotations

import base64
import io
import os
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from actfer_env._version import GENERATOR_VERSION
from actfer_env.bounds import bounded, check_fields
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.envs.panel import REGION_COLOURS, box_colour, draw_face, draw_original
from actfer_env.errors import ActFERError
from actfer_env.evaluation.run import PICTURE_FOLDER, Run
from actfer_env.files import write_bytes_atomic
from actfer_env.identity import digest, listed
from actfer_env.images import RGB, load_image, save_png
from actfer_env.rollout import Rollout, ToolCall
from actfer_env.tools.align import Alignment
from actfer_env.tools.toolkit import known_tool
from actfer_env.tools.zoom import ZoomConfig, crop_box

_BROKEN = (ActFERError, OSError, AttributeError, LookupError, TypeError, ValueError)
"""Errors that a changed or foreign source may raise; the report then says so and goes on."""


@dataclass(frozen=True)
class PictureConfig:
    """Sizes in pixels and the quality of the report's pictures; all chosen here.

    Attributes:
        original: Long side of the raw image.
        face: Side of the aligned face.
        crop: Long side of a crop, drawn for people whatever the policy saw.
        quality: JPEG quality.
        episodes: Episodes that get pictures (about 100 KB each), spread over outcomes and emotions; the others are
            listed without.
    """

    original: int = bounded(448, ge=16, le=4096)
    face: int = bounded(320, ge=16, le=4096)
    crop: int = bounded(224, ge=16, le=4096)
    quality: int = bounded(85, ge=1, le=100)
    episodes: int = bounded(400, ge=0)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Attributes:
        kind: "original", "face" or "crop".
        title: Name of the things that it shows.
        alt: The same for those who cannot see it.
        uri: Address of the JPEG: a data URI, or a file beside the page.
        size: (width, height) in pixels.
        turn: The turn (from 1) that brought it, or None.
        note: Remark on it.
        colour: CSS colour of its frame.
    """

    kind: str
    title: str
    alt: str
    uri: str
    size: tuple[int, int]
    turn: int | None = None
    note: str = ""
    colour: str = "transparent"


Drawn: TypeAlias = tuple[Sequence[Picture], str | None]
"""Pictures of an episode, and what is missing of them, if anything is."""


class Pictures:
    """Draws the pictures of a run's episodes.

    Args:
        run: The stored run; its data set is loaded when a picture is asked for that the run does not carry.
        config: Sizes.
        folder: The run's, where the pictures lie that it carries.

    Attributes:
        lost: Sample id -> why its picture cannot be found or is another one by now.
        link: Function from a JPEG's bytes to its address; a data URI if nothing else is set.
    """

    def __init__(
        self, run: Run, config: PictureConfig | None = None, folder: str | os.PathLike[str] | None = None
    ) -> None:
        self.config = config or PictureConfig()
        self.lost: dict[str, str] = {}
        self.link: Callable[[bytes], str] = data_uri
        self._run, self._folder = run, None if folder is None else Path(folder)
        self._dataset: Dataset | str | None = None
        self._last: tuple[str, RGB] | None = None
        self._drawn = 0

    def why_lost(self) -> str:
        """Return in one line which pictures are lost, and the cures."""
        samples = list(dict.fromkeys(rollout.sample_id for rollout in self._run.rollouts))
        ids = [name for name in samples if name in self.lost]
        reasons = dict.fromkeys(self.lost[name] for name in ids)
        which = f"{listed(ids)}: {listed(reasons, 1)}"
        return (
            f"the pictures of {len(ids)} of {len(samples)} samples cannot be shown ({which}); put them back, name "
            "their new place with --root, or play with --embed, so that the run carries its pictures"
        )

    def of(self, rollout: Rollout) -> Drawn:
        """Return an episode's pictures in order, and what is missing, if anything is."""
        if self._drawn >= self.config.episodes:
            total = len(self._run.rollouts)
            return [], f"left out: {self.config.episodes} of {total} episodes have pictures, to keep the report small"
        try:
            image = self._image(rollout.sample_id)
            alignment = stored_alignment(rollout, (image.shape[1], image.shape[0]))
            pictures = list(self._draw(rollout, image, alignment))
        except _BROKEN as error:
            self.lost[rollout.sample_id] = str(error)
            return [], f"the source picture cannot be shown: {error}"
        self._drawn += 1
        if alignment is None and rollout.detection in ("ok", "prealigned"):
            return pictures, "the rollout does not store how its face was aligned"
        bare = {call.name for call in rollout.tool_calls if not call.violation and not call.boxes}
        unknown = sorted(name for name in bare if known_tool(name) is None)
        cure = "name the module that registers it: actfer --import MODULE report ..."
        return pictures, f"the pictures of {unknown[0]} are not drawn: {cure}" if unknown else None

    def _image(self, sample_id: str) -> RGB:
        if self._last is None or self._last[0] != sample_id:
            carried = self._carried(sample_id)
            self._last = sample_id, self.sample(sample_id).image if carried is None else load_image(carried)
        return self._last[1]

    def _carried(self, sample_id: str) -> Path | None:
        name = self._run.pictures.get(sample_id)
        if name is None or self._folder is None:
            return None
        path = self._folder / PICTURE_FOLDER / Path(name).name
        return path if path.exists() else None

    def sample(self, sample_id: str) -> Sample:
        """Return a sample of the run's data set.

        Raises:
            LookupError: the data set cannot be loaded, or draws other faces by now.
            DataError: it has no such sample.
        """
        if self._dataset is None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # said when the run was made
                    arguments = {name: it for name, it in self._run.dataset.items() if name != "cache"}
                    self._dataset = load_dataset(**arguments)
            except _BROKEN as error:
                self._dataset = str(error)
        if isinstance(self._dataset, str):
            raise LookupError(self._dataset)
        found = self._dataset[self._dataset.find(sample_id)]
        if found.annotate is not None and self._run.generator != GENERATOR_VERSION:
            raise LookupError(f"drawn by generator {self._run.generator}, and this is {GENERATOR_VERSION}")
        return found

    def _draw(self, rollout: Rollout, image: RGB, alignment: Alignment | None) -> Iterator[Picture]:
        calls = [call for call in rollout.tool_calls if not call.violation]
        boxes = [box for call in calls for box in call.boxes]
        pixels = f"{image.shape[1]} × {image.shape[0]} px"
        raw = draw_original(image, alignment, boxes, self.config.original)
        yield self._picture("original", "raw image", f"Raw image of sample {rollout.sample_id}", raw, note=pixels)
        if alignment is not None:
            yield self._face(rollout, image, alignment)
        for call in calls:
            tool = known_tool(call.name)
            drawn = None if tool is None else tool.draw(call, image, alignment, self.config.crop)
            if drawn is not None:
                for title, picture in drawn:
                    yield self._picture("crop", title, f"{call.name}: {title}", picture, call.turn + 1)
            elif alignment is not None:
                yield from self._crops(call, image, alignment)

    def _face(self, rollout: Rollout, image: RGB, alignment: Alignment) -> Picture:
        turn = next((call.turn + 1 for call in rollout.tool_calls if _aligned(call)), None)
        face = draw_face(image, alignment, self.config.face)
        alt = "Aligned face with its four regions outlined"
        return self._picture("face", "aligned face", alt, face, turn=turn, note=_face_note(alignment))

    def _crops(self, call: ToolCall, image: RGB, alignment: Alignment) -> Iterator[Picture]:
        stored = call.result.get("crops", [])
        for i, box in enumerate(call.boxes):
            details = stored[i] if i < len(stored) else {}
            crop = crop_box(image, alignment, box, details.get("region"), ZoomConfig(size=self.config.crop))
            title = str(crop.region or "free box")
            colour = css_colour(box_colour(alignment, box))
            note = _crop_note(details, crop.native, crop.inside)
            yield self._picture("crop", title, f"Crop of {title}", crop.image, call.turn + 1, note, colour)

    def _picture(
        self, kind: str, title: str, alt: str, pixels: RGB, turn: int | None = None, note: str = "",
        colour: str = "transparent",
    ) -> Picture:  # fmt: skip
        size = (pixels.shape[1], pixels.shape[0])
        return Picture(kind, title, alt, self.link(jpeg(pixels, self.config.quality)), size, turn, note, colour)


def embed_pictures(folder: str | os.PathLike[str], run: Run, dataset: Dataset | None = None) -> Run:
    """Copy a run's source pictures into its folder, so that its report can be made again wherever the folder goes.

    Files are copied as they are, other pictures are written as PNG. What cannot be read is left out; a copy that is
    there already then stays in use.

    Args:
        folder: The run's.
        run: The run.
        dataset: Its data set, if it is at hand; else it is loaded.

    Returns:
        The run with `pictures`, to be written by `write_run`.

    Raises:
        DataError: the folder cannot be written.
    """
    source = Pictures(run, folder=folder)
    kept: dict[str, str] = {}
    for name in dict.fromkeys(rollout.sample_id for rollout in run.rollouts):
        try:
            sample = source.sample(name) if dataset is None else dataset[dataset.find(name)]
            kept[name] = _copy(sample, Path(folder) / PICTURE_FOLDER)
        except (ActFERError, LookupError):
            if (Path(folder) / PICTURE_FOLDER / Path(run.pictures.get(name, "")).name).is_file():
                kept[name] = run.pictures[name]
    return run.replace(pictures=kept)


def _copy(sample: Sample, folder: Path) -> str:
    image = sample.image  # what cannot be read is not copied
    if isinstance(sample.source, str | os.PathLike):
        path = Path(sample.source)
        name = digest(sample.id) + path.suffix.lower()
        write_bytes_atomic(folder / name, path.read_bytes())
    else:
        name = f"{digest(sample.id)}.png"
        save_png(image, folder / name)
    return name


def stored_alignment(rollout: Rollout, image_size: tuple[int, int]) -> Alignment | None:
    """Return the alignment that a rollout stores, or None if it has none.

    Args:
        rollout: The rollout.
        image_size: Width and height of its picture, pixels.

    Raises:
        ValueError: the picture has another size than the one that was aligned.
    """
    if rollout.detection == "prealigned":
        return Alignment.of_prealigned(image_size)
    call = next((call for call in rollout.tool_calls if _aligned(call)), None)
    if call is None:
        return None
    alignment = Alignment.from_dict(call.result)
    if alignment.image_size != image_size:
        was, now = ("{} × {}".format(*size) for size in (alignment.image_size, image_size))
        raise ValueError(f"it has {now} pixels, but had {was} when the run was made")
    return alignment


def stratified(strata: Mapping[str, Hashable]) -> list[str]:
    """Return names in an order of which each beginning holds about as many of every stratum, as far as there are any.

    Args:
        strata: Name -> its stratum; all of one type that has an order. Within one, the order is that of a digest of the
            name, so that neighbours in the data do not come together.
    """
    cells: dict[Any, list[str]] = {}
    for name, stratum in strata.items():
        cells.setdefault(stratum, []).append(name)
    columns = [sorted(cells[stratum], key=digest) for stratum in sorted(cells)]
    return [name for row in zip_longest(*columns) for name in row if name is not None]


def jpeg(pixels: RGB, quality: int) -> bytes:
    """Return a picture as the bytes of a JPEG.

    Args:
        pixels: Picture, RGB uint8 (H, W, 3).
        quality: JPEG quality, 1 to 95.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """Return the bytes of a JPEG as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def css_colour(colour: tuple[int, int, int]) -> str:
    """Return an RGB colour in CSS notation."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def legend() -> list[dict[str, str]]:
    """Return the regions with their CSS colours."""
    return [{"name": name, "colour": css_colour(colour)} for name, colour in REGION_COLOURS.items()]


def _aligned(call: ToolCall) -> bool:
    return not call.violation and "transform" in call.result and "landmarks" in call.result


def _face_note(alignment: Alignment) -> str:
    if alignment.prealigned:
        return "given as an aligned face"
    many = "" if alignment.faces == 1 else f", one of {alignment.faces} faces"
    return f"detector score {alignment.score:.2f}{many}"


def _crop_note(details: dict[str, Any], native: float, inside: float) -> str:
    parts = []
    size = details.get("size")
    if isinstance(size, list) and len(size) == 2:
        parts.append(f"policy saw {size[0]} × {size[1]} px")
    parts.append(_scale_words(1 / native))
    if inside < 0.995:
        parts.append(f"{inside:.0%} inside the picture")
    return ", ".join(parts)


def _scale_words(scale: float) -> str:
    if abs(scale - 1) < 0.05:
        return "at source size"
    return f"magnified\u00a0{scale:.1f}×" if scale > 1 else f"reduced\u00a0{1 / scale:.1f}×"
