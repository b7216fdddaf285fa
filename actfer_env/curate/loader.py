"""The loader of the data set "curated": what it needs beside the package is imported, or named, when it is called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from actfer_env.packages import needs

if TYPE_CHECKING:
    from actfer_env.sample import Sample


def load_curated(root: str | None) -> Iterable[Sample]:
    """Load the lines of `actfer data curate`; see `actfer_env.curate.dataset`.

    Args:
        root: The folder, or a file of lines.

    Raises:
        DataError: the file is missing or broken, a line's picture is gone, or the extra `data` is missing.
    """
    with needs("data"):
        from actfer_env.curate.dataset import load_curated as load

        return load(root)
