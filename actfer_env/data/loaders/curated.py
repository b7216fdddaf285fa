"""Curated lines as a data set: the RL set, with its pseudo Action Units as targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from actfer_env.errors import DataError
from actfer_env.packages import needs
from actfer_env.sample import Sample


def load_curated(root: str | None) -> Iterator[Sample]:
    """Read the data set "curated": a file of lines that `actfer data curate` wrote, or its folder, for ``rl.jsonl``.

    The samples are those of the source, with the lines' emotions and Action Units for targets.

    Args:
        root: The file or folder.

    Raises:
        DataError: the file is missing or broken, or a line's picture is gone.
    """
    if root is None:
        raise DataError("data set 'curated' needs root=FOLDER, written by 'actfer data curate'")
    with needs("data"):
        from actfer_env.curate.lines import read_lines
        from actfer_env.curate.replay import target_sample
    path = Path(root) / "rl.jsonl" if Path(root).is_dir() else Path(root)
    for line in read_lines(path):
        sample = target_sample(line)
        told = {"units_from": line.units_from, "emotion_from": line.emotion_from}
        yield replace(sample, split=None, meta={**sample.meta, **told})
