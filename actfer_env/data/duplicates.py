"""Equal and nearly equal pictures among many, by digests and perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from actfer_env.images import RGB

FLAT = 2.0
"""Pictures whose grey levels deviate less than this from their mean have no structure to compare (chosen here)."""
_BITS = 64
_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def perceptual_hash(image: RGB) -> int | None:
    """Return the 64-bit perceptual hash (pHash) of a picture, by the library imagehash; None for a flat one.

    Args:
        image: uint8 (H, W, 3).
    """
    import imagehash
    from PIL import Image

    grey = Image.fromarray(image).convert("L")
    if np.asarray(grey).std() < FLAT:
        return None
    return int.from_bytes(np.packbits(imagehash.phash(grey).hash).tobytes(), "big")


def near_pairs(hashes: NDArray[np.uint64], distance: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the pairs of hashes that differ in at most `distance` bits, in portions; a pair may come again.

    The 64 bits are cut into `distance` + 2 bands. Two hashes that near agree in two bands at least, so that only those
    that lie together when sorted by some two bands are compared: the work grows with the number of hashes and of pairs
    that agree so far, not with all pairs, and the memory with the number of hashes alone.

    Args:
        hashes: uint64 (n,), all different.
        distance: Bits, 0 to 8.

    Yields:
        The indices of the first and of the second hashes, int64 (pairs,) each.
    """
    edges = np.linspace(0, _BITS, distance + 3).round().astype(int).tolist()
    masks = [np.uint64(((1 << high) - 1) ^ ((1 << low) - 1)) for low, high in pairwise(edges)]
    for first, second in combinations(masks, 2):
        keys = hashes & (first | second)
        order = np.argsort(keys, kind="stable")
        keys, ranked = keys[order], hashes[order]
        places, step = np.arange(len(keys)), 1
        while places.size:  # those that agree with their neighbour so many places on
            places = places[places + step < len(keys)]
            places = places[keys[places] == keys[places + step]]
            near = places[bits_apart(ranked[places], ranked[places + step]) <= distance]
            if near.size:
                yield order[near], order[near + step]
            step += 1


def bits_apart(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of bits in which hashes differ, int64 (n,).

    Args:
        first: uint64 (n,).
        second: uint64 (n,).
    """
    apart = np.ascontiguousarray(first ^ second).view(np.uint8).reshape(-1, 8)
    return _ONES[apart].sum(axis=1, dtype=np.int64)


ALIKE = 0.85
"""Correlation of two pictures' thumbnails from which near hashes are believed: 192 copies of photos that were packed,
scaled or brightened anew had 0.91 to 1.00, photos of different people with near hashes 0.42 to 0.67."""


def thumbnail(image: RGB) -> NDArray[np.float32]:
    """Return a picture's grey 32 x 32 thumbnail, of mean 0 and length 1, float32 (1024,).

    Args:
        image: uint8 (H, W, 3).
    """
    from PIL import Image

    small = Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.BOX)
    grey = np.asarray(small, np.float32).ravel()
    grey = grey - grey.mean()
    return np.asarray(grey / max(float(np.linalg.norm(grey)), 1e-6), np.float32)
