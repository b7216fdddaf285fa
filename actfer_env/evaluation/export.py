"""Runs as files for other programs; a benchmark's folder is read as one run."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

from actfer_env.errors import DataError
from actfer_env.evaluation.costs import cost_of
from actfer_env.evaluation.frames import rollout_rows
from actfer_env.evaluation.metrics import summarize
from actfer_env.evaluation.run import RUN_FILE, Run, finished_run, read_run
from actfer_env.evaluation.table_files import Table, TableRow, latex, rows_csv
from actfer_env.evaluation.tables import summary_tables
from actfer_env.files import draft_file, write_text_atomic
from actfer_env.packages import needs
from actfer_env.rollout import Rollout

ExportKind = Literal["csv", "parquet", "jsonl", "latex"]
ENDINGS = {"csv": "csv", "parquet": "parquet", "jsonl": "jsonl", "latex": "tex"}
"""Kind of export -> ending of its file."""
BENCHMARK_FILE = "benchmark.json"
"""Mark of a benchmark's folder, beside the folders of its test sets."""


def export_run(run: Run, kind: str, path: str | os.PathLike[str]) -> Path:
    """Write a run for other programs.

    Args:
        run: The run.
        kind: "csv", "parquet" or "jsonl": a row for each episode (see `frames.rollout_rows`) with reward terms and
            advantage; "latex": tables of the run's figures. Only "parquet" needs further packages.
        path: The file.

    Returns:
        The file.

    Raises:
        DataError: the kind is unknown, the file cannot be written, or a package is missing.
    """
    place = Path(path)
    if kind not in get_args(ExportKind):
        raise DataError(f"unknown kind {kind!r}: use one of {', '.join(get_args(ExportKind))}")
    if kind == "latex":
        write_text_atomic(place, "\n".join(latex(table) for table in _figures(run)))
        return place
    if kind == "parquet":
        with needs("tables"):
            import pyarrow  # noqa: F401
        frame = run.to_pandas()
        with draft_file(place) as draft:
            frame.to_parquet(draft, index=False)
        return place
    rows = [  # what is not known is null, in CSV empty
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in rollout_rows(run.rollouts, run.scores, run.au_set)
    ]
    if kind == "jsonl":
        write_text_atomic(place, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return place
    write_text_atomic(place, rows_csv(rows))
    return place


def _figures(run: Run) -> list[Table]:
    found = summary_tables(summarize(run.rollouts, run.scores, run.au_set))
    cost = cost_of(run.rollouts, run.price)
    if cost is not None:
        found.append(("Used, in all", [(name.replace("_", " "), f"{value:g}", "") for name, value in
                                       asdict(cost).items()]))  # fmt: skip
    return [
        Table(title, str(run.settings.get("agent", "")), ("value", "note"),
              tuple(TableRow(name, (value, note)) for name, value, note in rows))
        for title, rows in found if rows
    ]  # fmt: skip


def read_results(folder: str | os.PathLike[str]) -> Run:
    """Return the run in a folder; of a benchmark's folder the runs of its test sets as one.

    Raises:
        DataError: there is none.
    """
    path = Path(folder)
    if (path / RUN_FILE).exists() or not (path / BENCHMARK_FILE).exists():
        return read_run(path)
    runs = {place.parent.name: read_run(place.parent) for place in sorted(path.glob(f"*/{RUN_FILE}"))}
    if not runs:
        raise DataError(f"{path} holds a benchmark of which nothing was played")
    try:
        parts = dict(json.loads((path / BENCHMARK_FILE).read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path / BENCHMARK_FILE} is broken ({error}): run 'actfer eval --benchmark' again") from error
    first = next(iter(runs.values()))
    rollouts = [_renamed(rollout, name) for name, run in runs.items() for rollout in run.rollouts]
    data = {"name": parts.get("benchmark"), "parts": {name: _told(run) for name, run in runs.items()}}
    return finished_run(rollouts, data, first.settings, first.reward)


def _renamed(rollout: Rollout, part: str) -> Rollout:
    return replace(rollout, sample_id=f"{part}/{rollout.sample_id}", group_id=f"{part}/{rollout.group_id}")


def _told(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.dataset.items() if key not in ("root", "cache")}
