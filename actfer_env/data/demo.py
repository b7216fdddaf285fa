"""The data set "demo": the first test samples of "synthetic" and of "portrait", in turn."""

from __future__ import annotations

from collections.abc import Iterator

from actfer_env.data.portrait import load_portrait
from actfer_env.data.synthetic.samples import load_synthetic
from actfer_env.errors import DataError
from actfer_env.sample import Sample

PORTRAIT_EVERY = 4


def load_demo(root: str | None = None, *, n: int = 48) -> Iterator[Sample]:
    """Read the data set "demo": drawn faces, and every fourth picture a view of the astronaut portrait.

    Args:
        root: Must be None.
        n: Number of samples.
    """
    if root is not None:
        raise DataError("data set 'demo' takes no root")
    drawn, photos = iter(load_synthetic(split="test", n=n)), iter(load_portrait(views=n))
    for index in range(n):
        yield next(photos if index % PORTRAIT_EVERY == 0 else drawn)
