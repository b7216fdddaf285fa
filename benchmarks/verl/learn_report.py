"""Table and curves of learn_on_cpu.sh, from what its runs have left.

    python learn_report.py WORK_FOLDER

Writes ``learn.md`` and ``learn.png`` there. Differences to the start are paired by face; the standard error is that of
the mean paired difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import _installed  # noqa: F401
import numpy as np
from numpy.typing import NDArray

from actfer_env.evaluation.intervals import PLUS_MINUS, Interval
from actfer_env.files import write_bytes_atomic, write_text_atomic
from actfer_env.rollout import Rollout, read_rollouts

START = "start"
KINDS = {"full": "UC-GRPO", "emotion": "plain GRPO, emotion alone", "random": "random rewards"}
MEASURES: dict[str, Callable[[Rollout], float]] = {
    "accuracy": lambda r: float(bool(r.correct)),
    "format": lambda r: float(r.predicted_emotion is not None and not r.violations),
    "zoomed": lambda r: float(r.zoomed),
}
Table = dict[tuple[str, str], NDArray[np.float64]]
"""(mode, measure) -> its value for each face, in the order of faces."""


def read_table(folder: Path) -> Table | None:
    """Return the figures of a model's evaluation, or None where it is not finished."""
    found: Table = {}
    for mode in ("sampled", "greedy"):
        if not (folder / mode / "figures.json").exists():
            return None
        rollouts = sorted(read_rollouts(folder / mode / "episodes.jsonl"), key=lambda rollout: rollout.sample_id)
        for name, measure in MEASURES.items():
            found[mode, name] = np.array([measure(rollout) for rollout in rollouts])
    return found


def with_error(values: NDArray[np.float64], *, sign: bool = False) -> str:
    """Return a mean with its standard error, in per cent."""
    return Interval.of(values).text(1, spread="error", scale=100, sign=sign)


def table(work: Path, runs: list[str]) -> str:
    """Return the table as Markdown."""
    start = read_table(work / "eval" / START)
    assert start is not None, "the start is not evaluated yet"
    heads = [f"{mode} {name}" for mode, name in start]
    lines = [f"| model | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines.append(f"| start | {' | '.join(with_error(values) for values in start.values())} |")
    gains = {run: gain(found, start) for run in runs if (found := read_table(work / "eval" / run)) is not None}
    lines += [row(title(run), one) for run, one in gains.items()]
    for kind, name in KINDS.items():
        seeds = [one for run, one in gains.items() if run.rsplit("-", 1)[0] == kind]
        if len(seeds) > 1:
            mean = {key: np.mean([one[key] for one in seeds], axis=0) for key in start}
            lines.append(row(f"**{name}, mean of {len(seeds)} seeds**", mean))
    count = len(next(iter(start.values())))
    note = f"Per cent of {count} held-out faces {PLUS_MINUS['error']}; runs as paired differences to the start."
    return "\n".join([*lines, "", note, ""])


def gain(found: Table, start: Table) -> Table:
    """Return what a run changed, face by face."""
    return {key: found[key] - start[key] for key in start}


def row(name: str, gains: Table) -> str:
    """Return a line of the table."""
    return f"| {name} | {' | '.join(with_error(values, sign=True) for values in gains.values())} |"


def kinds_of(runs: list[str]) -> list[str]:
    """Return the kinds that some runs are of, in the table's order."""
    return [kind for kind in KINDS if any(run.startswith(f"{kind}-") for run in runs)]


def title(run: str) -> str:
    """Return a run's name for people."""
    kind, seed = run.rsplit("-", 1)
    return f"{KINDS[kind]}, seed {seed}"


def curve(folder: Path, measure: Callable[[Rollout], float]) -> NDArray[np.float64]:
    """Return a measure's mean over the rollouts of each step."""
    steps = sorted((folder / "rollouts").glob("step_*.jsonl"))
    return np.array([np.mean([measure(rollout) for rollout in read_rollouts(step)]) for step in steps])


def draw(work: Path, runs: list[str]) -> bytes:
    """Return the curves as PNG, a pair of lines for each run: steps, and thick their means over seven."""
    import io

    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, len(MEASURES))
    colours = dict(zip(KINDS, ("tab:blue", "tab:orange", "tab:grey"), strict=True))
    for axis, (name, measure) in zip(axes, MEASURES.items(), strict=True):
        for run in runs:
            colour, values = colours[run.rsplit("-", 1)[0]], curve(work / "runs" / run, measure)
            axis.plot(range(1, len(values) + 1), values, color=colour, alpha=0.2, linewidth=1)
            if len(values) >= 7:
                smooth = np.convolve(values, np.ones(7) / 7, "valid")
                axis.plot(range(4, len(values) - 2), smooth, color=colour, linewidth=2)
        axis.set(title=f"{name} of sampled training rollouts", xlabel="step")
        axis.grid(alpha=0.3)
    lines = [Line2D([], [], color=colours[kind], linewidth=2, label=KINDS[kind]) for kind in kinds_of(runs)]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def main() -> None:
    work = Path(sys.argv[1])
    names = sorted(path.name for path in (work / "runs").glob("*-*") if (path / "rollouts").is_dir())
    runs = [name for kind in kinds_of(names) for name in names if name.startswith(f"{kind}-")]
    text = table(work, runs)
    write_text_atomic(work / "learn.md", text)
    write_bytes_atomic(work / "learn.png", draw(work, runs))
    print(text)


if __name__ == "__main__":
    main()
