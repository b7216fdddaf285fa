"""The data set "curated", which curation brings to the data sets below it; its reader is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from actfer_env.packages import needs
from actfer_env.plugins import bring

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


def register_datasets() -> None:
    """Bring the data set to the registry of data sets, which need not be there yet."""
    bring("actfer_env.datasets", "curated", load_curated)
