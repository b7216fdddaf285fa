"""Reading images: every picture becomes an RGB uint8 array, or one line that says why it cannot."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features
from PIL.PngImagePlugin import PngInfo

from actfer_env.errors import ImageError
from actfer_env.files import write_bytes_atomic

RGB: TypeAlias = NDArray[np.uint8]
"""An RGB image, uint8, shape (height, width, 3)."""

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""Sources that `load_image` takes: a path, the bytes of a file, a PIL image, or an array."""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jpe", ".jfif", ".mpo", ".apng", ".dib",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".avif", ".avifs", ".heic", ".heif", ".hif",
    ".tga", ".qoi",
)  # fmt: skip
"""File endings that count as images when a folder is searched (compared in lower case), where Pillow reads them; see
`readable_suffixes`."""

RAW_SUFFIXES = (
    ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw", ".jxl", ".psd", ".svg", ".exr",
    ".hdr",
)  # fmt: skip
"""File endings of pictures that are never read, and are named where they lie among others."""

_CODECS = {"JPEG": "jpg", "JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}
"""Formats that a build of Pillow may register and yet lack."""
_LEFT_BEHIND = frozenset({
    "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "__pycache__",
})  # fmt: skip
"""Folders, in lower case, that systems and programs leave among photos."""


@dataclass(frozen=True)
class ImageLimits:
    """Bounds on what is decoded.

    Attributes:
        max_pixels: Largest width x height; guards against decompression bombs (chosen here: 64 megapixels,
            above any camera photo that these tools need).
        min_side: Smallest side in pixels (chosen here: a face needs about twice that to be found).
        max_ratio: Largest ratio of the sides (chosen here: beyond any panorama; Qwen-VL's own bound is 200).
    """

    max_pixels: int = 64_000_000
    min_side: int = 16
    max_ratio: float = 100.0


LIMITS = ImageLimits()
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF orientation -> what makes the picture upright."""
_BOUND = "more than the bound of {:,} pixels; make it smaller first"


def load_image(source: ImageSource, *, name: str | None = None, limits: ImageLimits = LIMITS) -> RGB:
    """Read an image as people see it.

    The EXIF orientation is applied; grey and palette images become RGB; transparency is laid over white; CMYK is
    converted; of an animation the first frame is taken. Pixels of 16 bits are scaled to 8 by the depth that their
    largest value needs, 8, 10, 12, 14 or 16 bits: cameras and scanners store 10 or 12 bits in files of 16.

    Args:
        source: Path, encoded bytes, PIL image, or array: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of
            dtype uint8, uint16, or float in [0, 1].
        name: Name of the image in error messages; default is the path.
        limits: Bounds on the size.

    Returns:
        RGB image, uint8, (H, W, 3), C-contiguous.

    Raises:
        ImageError: not found, not an image, truncated, too large, too small, too narrow, or of an unsupported kind.
    """
    label = name or _label(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, label, limits)
    if not isinstance(source, str | os.PathLike | bytes | Image.Image):
        raise ImageError(f"{label} is no image: give a path, the bytes of a file, a PIL image or an array")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _decode(source, label, limits)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{label}: {_BOUND.format(limits.max_pixels)}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{label}: not an image that Pillow can read; give a JPEG, PNG, WebP, BMP or TIFF") from error
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # what Pillow's decoders raise on a broken file is not documented
        raise ImageError(_explain(label, error)) from error


@lru_cache(maxsize=1)
def readable_suffixes() -> frozenset[str]:
    """Return those of `IMAGE_SUFFIXES` that the installed Pillow, with its plug-ins, can read."""
    kinds = {**Image.registered_extensions(), ".mpo": "JPEG"}  # MPO is saved alone; read it is as JPEG
    lacking = {kind for kind, codec in _CODECS.items() if kind in Image.OPEN and not features.check(codec)}
    return frozenset(
        suffix for suffix in IMAGE_SUFFIXES if kinds.get(suffix) in Image.OPEN and kinds[suffix] not in lacking
    )


def find_images(root: str | os.PathLike[str]) -> list[Path]:
    """Return the images below a folder (sorted by path), or the one file that `root` names.

    Hidden files and folders, and what systems leave behind (``._a.jpg``, ``__MACOSX``, ``.ipynb_checkpoints``), are
    left out. Links to folders are followed, each folder once. Pictures in formats that cannot be read are named in
    one warning.

    Raises:
        ImageError: the path does not exist, or the folder holds no image.
    """
    path = Path(root)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ImageError(f"{path}: no such file or folder; check the spelling")
    files = [Path(file) for file in _walk(path)]
    readable = readable_suffixes()
    found = sorted(file for file in files if file.suffix.lower() in readable)
    pictures = {*IMAGE_SUFFIXES, *RAW_SUFFIXES} - readable
    other = sorted(file for file in files if file.suffix.lower() in pictures)
    if not found and not other:
        raise ImageError(f"{path}: no images in this folder; it needs files ending in {', '.join(sorted(readable))}")
    if not found:
        raise ImageError(f"{path}: no images in this folder but {_unread(other)}")
    if other:
        warnings.warn(f"{path}: left out {_unread(other)}", UserWarning, stacklevel=2)
    return found


def _unread(files: Sequence[Path]) -> str:
    kinds = ", ".join(sorted({file.suffix.lower() for file in files}))
    count = "1 picture" if len(files) == 1 else f"{len(files)} pictures"
    return f"{count} that cannot be read here ({kinds}), such as {files[0].name}: convert to JPEG or PNG"


def _walk(root: Path) -> Iterator[str]:
    """Yield the files below a folder: first what lies there, then what links to other folders lead to."""
    seen: set[str] = set()
    links = [str(root)]
    while links:
        folders = [links.pop(0)]
        while folders:
            folder = folders.pop()
            real = os.path.realpath(folder)
            if real in seen:
                continue
            seen.add(real)
            for entry in _entries(folder):
                if not entry.is_dir():
                    if entry.is_file():
                        yield entry.path
                elif entry.is_symlink():
                    links.append(entry.path)
                else:
                    folders.append(entry.path)
        links.sort()


def _entries(folder: str) -> Iterable[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [one for one in entries if one.name[0] != "." and one.name.lower() not in _LEFT_BEHIND]
    except OSError as error:
        warnings.warn(f"{folder}: left out, cannot be read ({error.strerror})", UserWarning, stacklevel=4)
        return []


def save_png(
    image: RGB, path: str | os.PathLike[str], *, quick: bool = False, text: Mapping[str, str] | None = None
) -> None:
    """Write a PNG, all or nothing.

    Args:
        image: uint8 (H, W, 3).
        path: The file; its folder is made if it is not there.
        quick: Packs it in about a quarter of the time, into a file about a sixth larger.
        text: Entries of text to be stored in the file.

    Raises:
        DataError: the folder cannot be written.
    """
    place = Path(path)
    stream, entries = io.BytesIO(), PngInfo()
    for key, value in (text or {}).items():
        entries.add_text(key, value)
    Image.fromarray(image).save(stream, "PNG", compress_level=1 if quick else 6, pnginfo=entries)
    write_bytes_atomic(place, stream.getvalue())


def _label(source: ImageSource) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"


def _explain(label: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{label}: no such file; check the path"
    if isinstance(error, IsADirectoryError):
        return f"{label}: is a folder; name one image in it"
    if isinstance(error, PermissionError):
        return f"{label}: no permission to read it"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{label}: broken image ({reason}); export or download it again"


def _check_size(width: int, height: int, label: str, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(f"{label}: {width} x {height}, {_BOUND.format(limits.max_pixels)}")
    if min(width, height) < limits.min_side:
        raise ImageError(f"{label}: {width} x {height} is too small; both sides need at least {limits.min_side} pixels")
    if max(width, height) > limits.max_ratio * min(width, height):
        raise ImageError(f"{label}: {width} x {height} is too narrow; crop it to at most {limits.max_ratio:g} to 1")


def _decode(source: Any, label: str, limits: ImageLimits) -> RGB:
    if isinstance(source, bytes):
        source = io.BytesIO(source)
        if not source.getbuffer().nbytes:
            raise ImageError(f"{label}: empty file; export or download it again")
    elif isinstance(source, str | os.PathLike) and Path(source).is_file() and not Path(source).stat().st_size:
        raise ImageError(f"{label}: empty file; export or download it again")
    if isinstance(source, Image.Image):
        return _convert(source, label, limits)
    with Image.open(source) as image:
        _check_size(image.width, image.height, label, limits)  # the header alone; nothing is decoded yet
        # Of colours of 16 bits Pillow keeps the upper 8 alone.
        tiles = getattr(image, "tile", None) or ()
        deep = image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in tiles)
        if deep and (shallow := _open_deep(source)) is not None:
            shallow.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
            return _convert(shallow, label, limits)
        return _convert(image, label, limits)


def _open_deep(source: Any) -> Image.Image | None:
    """Return a picture with colours of 16 bits scaled to 8, not turned upright; None where OpenCV cannot read it."""
    import cv2

    data = source.getvalue() if isinstance(source, io.BytesIO) else Path(source).read_bytes()
    pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        return None
    order = [2, 1, 0, 3][: pixels.shape[2]]
    colours, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
    scaled = np.concatenate([_to_uint8(colours, ""), _to_uint8(alpha, "")], axis=2)
    return Image.fromarray(scaled[..., order])


def _convert(image: Image.Image, label: str, limits: ImageLimits) -> RGB:
    _check_size(image.width, image.height, label, limits)
    image.load()
    image = _upright(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        array = np.asarray(image)
        if array.min() < 0 or array.max() > 65535:
            raise ImageError(f"{label}: 32-bit pixels have no agreed range; convert it to 8 or 16 bits")
        return _from_array(array.astype(np.uint16), label, limits)
    if image.mode == "F":
        raise ImageError(f"{label}: floating-point pixels have no agreed range; convert it to 8 or 16 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"), np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; `ImageOps.exif_transpose` also rewrites the tags, and fails on odd ones."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken block of tags, beside sound pixels
        return image
    return image if turn is None else image.transpose(turn)


def _from_array(array: NDArray[Any], label: str, limits: ImageLimits) -> RGB:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"{label}: an array of shape {array.shape} is no image; give (H, W), (H, W, 3) or (H, W, 4)")
    _check_size(array.shape[1], array.shape[0], label, limits)
    pixels = _to_uint8(array, label)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        pixels = np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _to_uint8(array: NDArray[Any], label: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        # White is the largest value of the smallest depth that holds all pixels.
        largest = int(array.max(initial=0))
        white = next(white for bits in (8, 10, 12, 14, 16) if largest <= (white := 2**bits - 1))
        return np.rint(array * (255.0 / white)).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ImageError(f"{label}: a float image must be finite and within [0, 1]; scale it first")
        return np.rint(array * 255).astype(np.uint8)
    raise ImageError(f"{label}: dtype {array.dtype} is no image; give uint8, uint16, or float in [0, 1]")


@lru_cache(maxsize=16)
def font(size: int) -> Any:
    """Return Pillow's own font at a size in pixels, for text in pictures; no font file is needed.

    Args:
        size: Height of the letters, pixels.
    """
    from PIL import ImageFont  # it brings a library of its own, which few starts need

    return ImageFont.load_default(size)
