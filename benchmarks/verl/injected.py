"""Five query groups whose sessions follow a script, played inside a real verl step, with numbers worked out by hand.

The groups: one session fails; all zoomed; all are wrong; no face is found; three of four sessions fail. Everything but
the policy's words is real: agent loop, tools, queue, padding, reward passes, update.

    python examples/verl_grpo/injected.py data FOLDER                        writes the five prompts as parquet
    python examples/verl_grpo/injected.py check RUN --step 4 --before STATE  compares a run with the numbers
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import _installed  # noqa: F401

from actfer_env.chat import chat_tools
from actfer_env.chat.turns import answer_text, call_text, look_texts
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.errors import ActFERError, DataError
from actfer_env.files import draft_file
from actfer_env.rollout import read_rollouts
from actfer_env.tools import DEFAULT_TOOLS, make_tool
from actfer_env.verl_plugin.rows import write_parquet
from actfer_env.verl_plugin.scoring import STATE_FILE

TOLERANCE = 1e-5
"""Of hand-made numbers; they leave out the 1e-6 that is added to a group's std."""
LOOP = "injected_agent"
"""The agent loop's name in agent_loop_cpu.yaml."""
FAILS, WRONG, RIGHT, ZOOM_WRONG, ZOOM_RIGHT = "fails", "wrong", "right", "zoom, wrong", "zoom, right"
GROUPS = {
    "one session fails": (ZOOM_RIGHT, WRONG, ZOOM_RIGHT, FAILS),
    "all zoomed": (ZOOM_RIGHT, ZOOM_WRONG, ZOOM_WRONG, ZOOM_WRONG),
    "all wrong": (ZOOM_WRONG, ZOOM_WRONG, WRONG, WRONG),
    "no face found": (RIGHT, WRONG, WRONG, WRONG),
    "one session left": (ZOOM_RIGHT, FAILS, FAILS, FAILS),
}
"""Group -> what each of its sessions does. A right answer has the right AUs too, a wrong one none."""
_MISSED = 0.3 * math.tanh(1.2 / 0.3)
_THIRD = 1 / math.sqrt(3)
TOTALS = {
    # task 1 or -0.2, structure 0.05; contrast 1 - (-0.2) = 1.2: +0.1 for zooming, -phi(1.2) for not zooming
    "one session fails": (1.15, -0.15 - _MISSED, 1.15),
    "all zoomed": (1.15, -0.25, -0.25, -0.25),  # no contrast: +0.1 where right, -0.1 where wrong
    "all wrong": (-0.05, -0.05, -0.05, -0.05),  # contrast 0 is neutral: +0.1 for all
    "no face found": (1.15, -0.25, -0.25, -0.25),  # a failed detection takes no part in a contrast: as "all zoomed"
    "one session left": (1.15,),
}
ADVANTAGES = {
    # values a, b, a: mean (2a + b) / 3, std |a - b| / sqrt(3)
    "one session fails": (_THIRD, -2 * _THIRD, _THIRD),
    "all zoomed": (1.5, -0.5, -0.5, -0.5),  # deviations 1.05 and -0.35, std 0.7
    "all wrong": (0.0, 0.0, 0.0, 0.0),
    "no face found": (1.5, -0.5, -0.5, -0.5),
    "one session left": (0.0,),
}
CONTRASTS = {"one session fails": 1.2, "all wrong": 0.0}
"""Group -> its contrast; the other groups have none, and must not move the EMA."""
FAILED = sum(does == FAILS for plan in GROUPS.values() for does in plan)


def look() -> str:
    """Return the turn that looks closer: zoom_in, or the first tool of the variable TOOLS that is not ActFER's.

    Raises:
        DataError: that tool does not count as looking closer.
    """
    own = [name for name in os.environ.get("TOOLS", "").split(",") if name and name not in DEFAULT_TOOLS]
    if not own:
        return look_texts(["mouth-chin"])[1]
    tool = make_tool(own[0])
    if not tool.looks_closer:
        raise DataError(f"{tool.name} does not look closer: the numbers are of sessions that do")
    return call_text(tool.name, **tool.example)


def script(sample: Sample, does: str) -> list[str]:
    """Return the turns of a session.

    Args:
        sample: the picture; its labels make an answer right.
        does: one of the words of `GROUPS`.
    """
    wrong = "fear" if sample.emotion != "fear" else "anger"
    right = answer_text(str(sample.emotion), sample.aus or ()) if "right" in does else answer_text(wrong, ())
    return [*look_texts(), *([look()] if "zoom" in does else []), right]


@lru_cache(maxsize=1)
def choose() -> list[Sample]:
    """Return a sample for each group, of five emotions; only that of "no face found" has no face that is found."""
    tools, chosen = chat_tools("auto"), dict.fromkeys(GROUPS)
    for sample in load_dataset("synthetic", split="train", n=500):
        taken = {one.emotion for one in chosen.values() if one is not None}
        if sample.emotion == "neutral" or sample.emotion in taken or not sample.aus:
            continue
        found = tools.alignment(sample) is not None
        free = [group for group, one in chosen.items() if one is None and (group != "no face found") == found]
        if free:
            chosen[free[0]] = sample
    return [sample for sample in chosen.values() if sample is not None]


def write_data(folder: Path) -> None:
    """Write the prompts, one a group; their rows name `LOOP`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = load_dataset("synthetic", split="train", n=500)
    write_parquet(Dataset(whole.name, choose(), whole.arguments), folder)
    for path in folder.glob("*.parquet"):
        rows = pq.read_table(path)
        place = rows.schema.get_field_index("agent_name")
        with draft_file(path) as draft:
            pq.write_table(rows.set_column(place, "agent_name", pa.array([LOOP] * len(rows))), draft)


def check(run: Path, step: int, before: Path) -> None:
    """Compare a run's step with the numbers.

    Raises:
        DataError: the first number that differs.
    """
    stem = run / "rollouts" / f"step_{step:06d}"
    rollouts, record = read_rollouts(stem.with_suffix(".jsonl")), json.loads(stem.with_suffix(".json").read_text())
    samples = dict(zip([sample.id for sample in choose()], GROUPS, strict=True))
    for name, wanted in (("total", TOTALS), ("advantage", ADVANTAGES)):
        found: dict[str, dict[int, float]] = {group: {} for group in GROUPS}
        for rollout, value in zip(rollouts, record[name], strict=True):
            found[samples[rollout.sample_id]][rollout.member] = value
        for group, members in found.items():
            _same(f"{name} of {group!r}", [members[key] for key in sorted(members)], wanted[group])
    if record["rows_padding"] != FAILED:
        raise DataError(f"{record['rows_padding']} rows of padding, not {FAILED}")
    _check_state(record["state"], before, run / f"global_step_{step}" / STATE_FILE)


def _check_state(began: dict[str, Any], before: Path, after: Path) -> None:
    """Compare the EMA: restored as it was, then moved by the two contrasts alone."""
    if began != json.loads(before.read_text()):
        raise DataError(f"the run did not begin with the state of {before}")
    emotions = dict(zip(GROUPS, [str(sample.emotion) for sample in choose()], strict=True))
    wanted = dict(began["ema"])
    for group, contrast in CONTRASTS.items():
        wanted[emotions[group]] = 0.9 * wanted[emotions[group]] + 0.1 * contrast
    found = json.loads(after.read_text())["ema"]
    _same("the EMA", [found[name] for name in sorted(wanted)], [wanted[name] for name in sorted(wanted)])


def _same(what: str, found: Sequence[float], wanted: Sequence[float]) -> None:
    near = len(found) == len(wanted) and all(abs(a - b) <= TOLERANCE for a, b in zip(found, wanted, strict=True))
    if not near:
        raise DataError(f"{what}: the run has {list(found)}, by hand it is {list(wanted)}")


def main() -> None:
    """Write the data or check a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("data", "check"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("--before", type=Path, help="the scorer's state of the checkpoint that was resumed")
    options = parser.parse_args()
    try:
        if options.action == "data":
            write_data(options.folder)
            return
        check(options.folder, options.step, options.before)
    except ActFERError as error:
        sys.exit(f"injected: {error}")
    sys.stdout.write(f"injected: {len(GROUPS)} groups, {FAILED} failed sessions, padding and EMA are as by hand\n")


if __name__ == "__main__":
    main()
