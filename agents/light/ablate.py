"""The paper's ablation on a laptop: variants x seeds, with honest statistics. `actfer ablate` calls it."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.agents.light.claims import WARM_START, claims_table, paired
from actfer_env.agents.light.examples import write_examples
from actfer_env.agents.light.samples import training_data
from actfer_env.agents.light.sb3_baseline import SB3_PPO, run_sb3, steps_of
from actfer_env.agents.light.session import SessionConfig, run, split_data
from actfer_env.agents.light.trainer import CHECKPOINT
from actfer_env.errors import DataError
from actfer_env.evaluation.intervals import PLUS_MINUS, Interval
from actfer_env.files import check_writable, draft_file, write_text_atomic
from actfer_env.packages import needs
from actfer_env.plugins import parallel
from actfer_env.rewards import VARIANTS
from actfer_env.rewards.registry import OTHER_REWARDS

Say = Callable[[str], None]
METRICS = (
    "task",
    "accuracy",
    "macro_f1",
    "au_f1",
    "zoom",
    "zoom_good",
    "zoom_poor",
    "zooms",
    "region_gain",
    "first_gain",
)
STEPS_FROM = "full"
"""The variant whose environment steps the baseline takes."""
BASELINES = {
    "never zoom": "task_never", "zoom once or more": "task_once", "always zoom": "task_always",
    "zoom iff good (privileged)": "task_privileged", "per-sample oracle": "task_oracle",
}  # fmt: skip


def ablate(
    base: SessionConfig, out: Path, cache: Path, *, variants: Sequence[str] = (*VARIANTS, WARM_START), seeds: int = 5,
    baseline_seeds: int = 1, workers: int = 2, say: Say = print,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Train every variant with every seed, in parallel processes, and write tables, curves and a page of
    example episodes (of the first variant's first seed).

    Runs that are finished in `out` are not made again; interrupted ones go on where they stopped.

    Args:
        base: The run that variants and seeds change.
        out: Folder; each run has one of its own in it.
        cache: Folder of pictures and warm starts.
        variants: Keys of `rewards.VARIANTS` or of `OTHER_REWARDS`, `WARM_START`, or `SB3_PPO`.
        seeds: 0 to seeds - 1; a seed's variants share their warm start.
        baseline_seeds: Seeds of `SB3_PPO`, which takes many times as long as the others.
        workers: Processes. Each has one thread of torch, whatever `base` says: more would wait for each other.
        say: Takes progress lines.

    Returns:
        Variant -> the results of its seeds.

    Raises:
        DataError: an unknown variant, `SB3_PPO` without "full" or without its extra, or a folder of other runs.
    """
    _check(variants)
    base = replace(base, threads=1)
    _figure()  # what is missing for the curves is told before the work
    check_writable(out)
    data = training_data(base)
    for note in data.notes:
        say(note)
    for split in data.parts:
        split_data(split, 0, base, cache, say, workers, data)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for part in _phases(variants, seeds, baseline_seeds):
        made = parallel(_run, ((base, name, seed, out, cache) for name, seed in part), workers)
        for (name, seed), result in zip(part, made, strict=True):
            results[name].append(result)
            say(f"finished {name}, seed {seed}")
    write_tables(results, out)
    plot_curves(results, out)
    if (out / f"{variants[0]}-0" / CHECKPOINT).exists():
        write_examples(_config(base, variants[0], 0), out / f"{variants[0]}-0", cache)
    return results


def _check(variants: Sequence[str]) -> None:
    known = (*VARIANTS, *OTHER_REWARDS, WARM_START, SB3_PPO)
    for name in variants:
        if name not in known:
            raise DataError(f"unknown variant {name!r}: use one of {', '.join(known)}")
    if SB3_PPO in variants and STEPS_FROM not in variants:
        raise DataError(f"{SB3_PPO} takes the environment steps of {STEPS_FROM}: name that variant too")
    if SB3_PPO in variants:
        with needs("sb3"):
            import stable_baselines3  # noqa: F401


def _phases(variants: Sequence[str], seeds: int, baseline_seeds: int) -> tuple[list[tuple[str, int]], ...]:
    """Return (variant, seed) of the runs: a seed's warm start is made once, by its first variant; the baseline is last,
    as its length is that of another run.
    """
    light = [name for name in variants if name != SB3_PPO]
    runs = [(name, seed) for name in light for seed in range(seeds)]
    baseline = [(SB3_PPO, seed) for seed in range(baseline_seeds)] if SB3_PPO in variants else []
    return runs[:seeds], runs[seeds:], baseline


def _config(base: SessionConfig, name: str, seed: int) -> SessionConfig:
    if name == WARM_START:
        return replace(base, variant="full", seed=seed, trainer=replace(base.trainer, steps=0))
    return replace(base, variant=name, seed=seed)


def _run(base: SessionConfig, name: str, seed: int, out: Path, cache: Path) -> dict[str, Any]:
    if name == SB3_PPO:
        steps = steps_of(out / f"{STEPS_FROM}-{seed}")
        return run_sb3(_config(base, STEPS_FROM, seed), steps, out / f"{name}-{seed}", cache, _quiet)
    return run(_config(base, name, seed), out / f"{name}-{seed}", cache, _quiet, 1)


def _quiet(text: str) -> None:
    """Say nothing: several processes would speak at once."""


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, str]]:
    """Return the table's rows: a variant's mean and interval of each metric, and its paired difference to "full"."""
    rows = []
    for name, runs in results.items():
        row = {"variant": name, "seeds": str(len(runs))}
        row |= {metric: str(Interval.of([each["figures"][metric] for each in runs])) for metric in METRICS}
        if "full" in results and name != "full":
            row["task - full"] = str(Interval.of(paired(runs, results["full"][: len(runs)], "task")))
        rows.append(row)
    return rows


def gate_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, str]]:
    """Return what each learned gate gains over the same weights forced, paired by seed."""
    rows = []
    for name, runs in results.items():
        if name == SB3_PPO:  # its weights have no gate that could be forced
            continue
        row = {"variant": name, "learned gate": str(Interval.of([each["figures"]["task"] for each in runs]))}
        for label, metric in BASELINES.items():
            row[label] = str(Interval.of([each["figures"][metric] for each in runs]))
        for label in ("never", "once", "always"):
            gaps = [each["figures"]["task"] - each["figures"][f"task_{label}"] for each in runs]
            found = Interval.of(gaps)
            ratio = f" ({found.mean / found.error:.1f} SE)" if 0 < found.error < np.inf else ""
            row[f"gate - {label}"] = f"{found}{ratio}"
        rows.append(row)
    return rows


def emotion_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, str]]:
    """Return zoom ratios per emotion and the shares of the regions."""
    names = [f"zoom_{name}" for name in facs.EMOTIONS] + [f"region_{name}" for name in facs.REGIONS]
    return [
        {"variant": name} | {key: str(Interval.of([each["figures"][key] for each in runs])) for key in names}
        for name, runs in results.items()
    ]


def to_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as a Markdown table."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    lines = [header, ["---"] * len(header), *([row.get(key, "") for key in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_tables(results: Mapping[str, Sequence[Mapping[str, Any]]], out: Path) -> Path:
    """Write `ablation.md`, and return where."""
    tables = {
        "Variants": table(results), "The learned gate and the same weights, forced": gate_table(results),
        "The paper's claims": claims_table(results), "Where it zooms": emotion_table(results),
    }  # fmt: skip
    parts = ["# Ablation", "", f"Mean over seeds {PLUS_MINUS['interval']}. Differences are paired by seed.", ""]
    for title, rows in tables.items():
        if rows:  # claims compare two variants
            parts += [f"## {title}", "", to_markdown(rows), ""]
    write_text_atomic(out / "ablation.md", "\n".join(parts))
    return out / "ablation.md"


def plot_curves(results: Mapping[str, Sequence[Mapping[str, Any]]], out: Path) -> None:
    """Draw the task reward, the zoom ratio and the EMA over the steps, averaged over seeds."""
    figure = _figure()
    axes = figure.subplots(1, 3)
    for name, runs in results.items():
        if name in (WARM_START, SB3_PPO):
            continue
        logs = [_log(out / f"{name}-{seed}" / "log.csv") for seed in range(len(runs))]
        for axis, column in zip(axes, ("task", "zoom"), strict=False):
            axis.plot(_smooth(np.mean([log[column] for log in logs], axis=0)), label=name, lw=1.4)
        if name == "full":
            for emotion in facs.EMOTIONS:
                axes[2].plot(np.mean([log[f"ema_{emotion}"] for log in logs], axis=0), label=emotion, lw=1.2)
    for axis, title in zip(
        axes, ("task reward, training", "zoom ratio, training", "EMA of the contrast, full"), strict=True
    ):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step", fontsize=9)
        axis.tick_params(labelsize=8)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4)
    figure.tight_layout()
    with draft_file(out / "curves.png") as draft:
        figure.savefig(draft, format="png")


def _figure() -> Any:
    """Return an empty figure that is drawn into files alone, whatever backend matplotlib is set to."""
    backend = os.environ.pop("MPLBACKEND", None)  # one that is not installed, as outside Jupyter, stops the import
    try:
        with needs("torch"):
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    figure = Figure(figsize=(12, 4.0), dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _log(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def _smooth(values: np.ndarray, width: int = 9) -> np.ndarray:
    width = min(width, len(values))
    return np.convolve(values, np.ones(width) / width, mode="valid")
