"""`FaceTools`: the two tools over samples, with decoding and detection done once per sample."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from actfer_env.bounds import bounded, check_fields
from actfer_env.boxes import Box
from actfer_env.images import RGB
from actfer_env.tools.align import Alignment, FaceChoice, align
from actfer_env.tools.detectors import Detector, make_detector
from actfer_env.tools.orientation import detect_in
from actfer_env.tools.sampling import fit
from actfer_env.tools.template import TEMPLATE, FaceTemplate
from actfer_env.tools.zoom import ZOOM, Crop, ZoomConfig, crop_box

if TYPE_CHECKING:
    from actfer_env.sample import Sample

V = TypeVar("V")
_NOTHING: Any = object()


@dataclass(frozen=True)
class CacheConfig:
    """Bounds of the tool cache; chosen here.

    Attributes:
        images: Decoded pictures kept, within the next bound.
        image_bytes: bytes of decoded pictures kept; about a thousand drawn ones, or twenty photos of 4 megapixels.
        alignments: Alignments kept (up to ten kilobytes each, with the record that rollouts share).
        drawn_bytes: bytes of small pictures kept: overviews, aligned faces and crops, which the members of a query
            group and later episodes of a sample ask for again.
        drawn: Overviews and faces kept, and as many crops, within the bound before.
    """

    images: int = bounded(1024, ge=0)
    image_bytes: int = bounded(256 * 2**20, ge=0)
    alignments: int = bounded(16_384, ge=0)
    drawn_bytes: int = bounded(128 * 2**20, ge=0)
    drawn: int = bounded(131_072, ge=0)

    def __post_init__(self) -> None:
        check_fields(self)


CACHE = CacheConfig()
ONE_PASS = CacheConfig(images=128, image_bytes=64 * 2**20, alignments=256, drawn_bytes=16 * 2**20, drawn=512)
"""Bounds for work that passes over its samples once, a hundred or so at a time."""
_OWN = frozenset({
    "detections", "_detector", "_lock", "_images", "_alignments", "_derived", "_pictures", "_crops",
})  # fmt: skip
"""Attributes of `FaceTools` that no copy takes along."""


class FaceTools:
    """Detection and decoding for episodes: each sample's work is done once and kept, within bounds.

    One instance may be shared by many episodes and threads. Its results do not depend on what is cached.

    Args:
        detector: A detector or its spec; built at the first detection.
        zoom: Constants of zoom-in.
        template: Positions of the five points in the aligned face.
        face: Choice of the face that is aligned.
        cache: Bounds.
    """

    def __init__(
        self,
        detector: str | Detector = "auto",
        *,
        zoom: ZoomConfig = ZOOM,
        template: FaceTemplate = TEMPLATE,
        face: FaceChoice = "largest",
        cache: CacheConfig = CACHE,
    ) -> None:
        self.zoom, self.template, self.choice = zoom, template, face
        self._spec, self._config = detector, cache
        self._begin()

    def _begin(self) -> None:
        """Start with nothing built and nothing kept."""
        cache = self._config
        self.detections = 0
        """Calls of the detector so far; "cached" reads an answer, and counts its own detections in `misses`."""
        self._detector: Detector | None = None
        self._lock = threading.RLock()
        self._images: _LRU[RGB] = _LRU(cache.images, cache.image_bytes, lambda image: image.nbytes)
        self._alignments: _LRU[tuple[Alignment | None]] = _LRU(cache.alignments)
        self._derived: _LRU[Any] = _LRU(cache.alignments)
        self._pictures: _LRU[RGB] = _LRU(cache.drawn, cache.drawn_bytes, lambda image: image.nbytes)
        self._crops: _LRU[Crop] = _LRU(cache.drawn, cache.drawn_bytes, lambda crop: crop.image.nbytes)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along: all settings, those of a subclass too, and nothing cached."""
        return {name: value for name, value in vars(self).items() if name not in _OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take these settings."""
        vars(self).update(state)
        self._begin()

    @property
    def spec(self) -> str | Detector:
        """The detector as it was given: its spec, or itself."""
        return self._spec

    @property
    def detector(self) -> Detector:
        """The detector, built on first use."""
        with self._lock:
            if self._detector is None:
                self._detector = make_detector(self._spec)
            return self._detector

    def image(self, sample: Sample) -> RGB:
        """Return the sample's picture; treat it as read-only.

        Args:
            sample: The sample.

        Returns:
            The picture, RGB uint8 (H, W, 3).

        Raises:
            ImageError: it cannot be read.
        """
        with self._lock:
            return self._images.get(sample.key, sample.load)

    def alignment(self, sample: Sample) -> Alignment | None:
        """Return the sample's alignment, or None if no face was found.

        Args:
            sample: The sample.

        Returns:
            The alignment of the face that was chosen.

        Raises:
            ImageError: the picture cannot be read.
            DetectorError: the detector lacks its extra or weights.
        """

        def find() -> tuple[Alignment | None]:
            image = self.image(sample)
            size = (image.shape[1], image.shape[0])
            if sample.prealigned:
                return (Alignment.of_prealigned(size, self.template),)
            self.detections += 1
            return (align(detect_in(self.detector, sample, image), size, face=self.choice, template=self.template),)

        with self._lock:
            return self._alignments.get(sample.key, find)[0]

    def derived(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return what was made under a key, or make and keep it; for what follows from a sample and its alignment."""
        with self._lock:
            found: V = self._derived.get(key, make)
        return found

    def overview(self, sample: Sample, side: int) -> RGB:
        """Return the sample's picture fitted into a black square of `side` pixels; read-only.

        Args:
            sample: The sample.
            side: Side of the square, pixels.

        Returns:
            The picture, RGB uint8 (side, side, 3).
        """
        with self._lock:
            return self._pictures.get((sample.key, "all", side), lambda: _frozen(fit(self.image(sample), side)))

    def face(self, sample: Sample, alignment: Alignment, side: int) -> RGB:
        """Return the sample's aligned face, uint8 (side, side, 3); read-only.

        Args:
            sample: The sample.
            alignment: Its alignment.
            side: Side of the result, pixels.

        Returns:
            The face, RGB.
        """
        with self._lock:
            return self._pictures.get(
                (sample.key, "face", side), lambda: _frozen(alignment.draw(self.image(sample), side))
            )

    def crop(self, sample: Sample, alignment: Alignment, box: Box, region: str | None) -> Crop:
        """Return the magnified crop of a checked box; its picture is read-only.

        Args:
            sample: The sample.
            alignment: Its alignment.
            box: The box, in the aligned frame.
            region: Name of the region that the box is, or None.

        Returns:
            The crop, with its picture uint8 (H, W, 3).
        """

        def draw() -> Crop:
            crop = crop_box(self.image(sample), alignment, box, region, self.zoom)
            crop.image.setflags(write=False)
            return crop

        with self._lock:
            return self._crops.get((sample.key, box, region), draw)


def _frozen(image: RGB) -> RGB:
    image.setflags(write=False)
    return image


class _LRU(Generic[V]):
    """A least-recently-used map with a bound on entries and on their summed weight."""

    def __init__(
        self, entries: float = float("inf"), weight: float = float("inf"), weigh: Callable[[V], float] = lambda _: 0.0
    ) -> None:
        self._entries, self._limit, self._weigh = entries, weight, weigh
        self._held = 0.0
        self._map: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        found = self._map.get(key, _NOTHING)
        if found is not _NOTHING:
            self._map.move_to_end(key)
            return found
        value = self._map[key] = make()
        self._held += self._weigh(value)
        while len(self._map) > 1 and (len(self._map) > self._entries or self._held > self._limit):
            self._held -= self._weigh(self._map.popitem(last=False)[1])
        return value
