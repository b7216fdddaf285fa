"""Runs as tables for other programs: a row for each episode, in py-feat's columns and some of our own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from actfer_env.errors import DataError
from actfer_env.evaluation.costs import cost_of
from actfer_env.evaluation.metrics import summarize
from actfer_env.evaluation.run import RUN_FILE, Run, finished_run, read_run
from actfer_env.evaluation.table_files import Table, TableRow, latex
from actfer_env.evaluation.tables import summary_tables
from actfer_env.files import draft_file, write_text_atomic
from actfer_env.packages import needs
from actfer_env.rewards import TERMS, Scores
from actfer_env.rollout import Rollout

ExportKind = Literal["csv", "parquet", "jsonl", "latex"]
ENDINGS = {"csv": "csv", "parquet": "parquet", "jsonl": "jsonl", "latex": "tex"}
"""Kind of export -> ending of its file."""
PYFEAT_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""The emotions in the order of py-feat's columns; it has no contempt, which comes behind them here."""
PYFEAT_BOX = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore")


def rollouts_frame(
    rollouts: Iterable[Rollout], scores: Scores | None = None, au_set: Iterable[int] | None = None
) -> Any:
    """Return a `pandas.DataFrame` of a row for each rollout.

    First come py-feat's columns: the face's box in pixels and its score (NaN where no face was detected), `AU01` and
    its like, and the emotions, each 1 or 0 as it was answered (NaN without an answer), `input` (the picture) and
    `frame` (the row's number). Then ours: ids, `emotion` and `predicted_emotion`, `correct`, targets as `AU01_target`
    (NaN where units were not annotated), what the episode did, and what it cost.

    Args:
        rollouts: Finished rollouts.
        scores: Their scores; adds the reward terms and the advantage.
        au_set: Action Units that get columns; None is those that occur.

    Raises:
        DataError: pandas is not installed.
    """
    with needs("tables"):
        import pandas as pd

    listed = tuple(rollouts)
    occurring = frozenset().union(*((one.aus or frozenset()) | (one.predicted_aus or frozenset()) for one in listed))
    units = sorted(occurring if au_set is None else au_set)
    rows = [_row(rollout, number, units) for number, rollout in enumerate(listed)]
    frame = pd.DataFrame(rows)
    if scores is not None:
        for name in (*TERMS, "advantage"):
            frame[name] = np.asarray(getattr(scores, name))
    return frame


def _row(rollout: Rollout, number: int, units: Sequence[int]) -> dict[str, Any]:
    given, answer, target = rollout.predicted_emotion is not None, rollout.predicted_aus or frozenset(), rollout.aus
    zooms = [call for call in rollout.tool_calls if call.zoomed]
    used = rollout.meta.get("usage") or {}
    return {
        **dict(zip(PYFEAT_BOX, _face(rollout), strict=True)),
        **{f"AU{unit:02d}": float(unit in answer) if given else np.nan for unit in units},
        **{name: float(rollout.predicted_emotion == name) if given else np.nan
           for name in (*PYFEAT_EMOTIONS, "contempt")},
        "input": str(rollout.meta.get("image", rollout.sample_id)), "frame": number,
        "sample_id": rollout.sample_id, "group_id": rollout.group_id, "member": rollout.member,
        "dataset": rollout.meta.get("dataset"), "emotion": rollout.emotion,
        "predicted_emotion": rollout.predicted_emotion, "correct": rollout.correct,
        **{f"AU{unit:02d}_target": np.nan if target is None else float(unit in target) for unit in units},
        "detection": rollout.detection, "zoomed": rollout.zoomed, "zooms": len(zooms),
        "regions": " ".join(str(region) for call in zooms for region in call.arguments.get("regions") or ()),
        "turns": rollout.turns, "truncated": rollout.truncated, "violations": " ".join(rollout.violations),
        "outcome": rollout.meta.get("outcome"), "parse_failures": rollout.meta.get("parse_failures"),
        **{name: used.get(name, np.nan) for name in ("calls", "prompt_tokens", "completion_tokens", "seconds")},
    }  # fmt: skip


def _face(rollout: Rollout) -> tuple[float, ...]:
    """Return x, y, width, height and score of the detected face; NaN where there is none."""
    for call in rollout.tool_calls:
        if call.violation is None and "box" in call.result and "score" in call.result:
            x1, y1, x2, y2 = map(float, call.result["box"])
            return x1, y1, x2 - x1, y2 - y1, float(call.result["score"])
    return (np.nan,) * 5


def export_run(run: Run, kind: str, path: str | os.PathLike[str]) -> Path:
    """Write a run for other programs.

    Args:
        run: The run.
        kind: "csv", "parquet" or "jsonl": a row for each episode (see `rollouts_frame`) with reward terms and
            advantage; "latex": tables of the run's figures.
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
    frame = run.to_pandas()
    if kind == "csv":
        write_text_atomic(place, frame.to_csv(index=False, lineterminator="\n"))
    elif kind == "jsonl":
        lines = (json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in frame.to_dict("records"))
        write_text_atomic(place, "".join(lines))
    else:
        with needs("tables"):
            import pyarrow  # noqa: F401
        with draft_file(place) as draft:
            frame.to_parquet(draft, index=False)
    return place


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Return a row as JSON values; what is not known is null."""
    values = {str(key): value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in values.items()}


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
    if (path / RUN_FILE).exists() or not (path / "benchmark.json").exists():
        return read_run(path)
    runs = {place.parent.name: read_run(place.parent) for place in sorted(path.glob(f"*/{RUN_FILE}"))}
    if not runs:
        raise DataError(f"{path} holds a benchmark of which nothing was played")
    parts = json.loads((path / "benchmark.json").read_text(encoding="utf-8"))
    first = next(iter(runs.values()))
    rollouts = [_renamed(rollout, name) for name, run in runs.items() for rollout in run.rollouts]
    data = {"name": parts.get("benchmark"), "parts": {name: _told(run) for name, run in runs.items()}}
    return finished_run(rollouts, data, first.settings, first.reward)


def _renamed(rollout: Rollout, part: str) -> Rollout:
    return replace(rollout, sample_id=f"{part}/{rollout.sample_id}", group_id=f"{part}/{rollout.group_id}")


def _told(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.dataset.items() if key not in ("root", "cache")}
