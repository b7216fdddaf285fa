"""Playing a benchmark, one test set after the other, and its tables; a part of `actfer eval`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from actfer_env.cli.output import say
from actfer_env.errors import DataError
from actfer_env.files import check_writable, write_text_atomic
from actfer_env.identity import refuse_other

if TYPE_CHECKING:
    from actfer_env.data import Dataset
    from actfer_env.evaluation import EvalConfig, Run
    from actfer_env.evaluation.benchmarks import Benchmark, Part


def open_benchmark(name: str, root: Path | None, number: int | None, against: Path | None) -> Benchmark:
    """Open a benchmark, and say what of it is there.

    Args:
        name: Its name.
        root: Folder of its data.
        number: Items of each set; None is all.
        against: Folder of another run's tables, which must be there.

    Raises:
        DataError: the name is unknown, the data or the other tables are not there, or a package for tables is missing.
    """
    from actfer_env.evaluation.benchmarks import check_benchmark, read_benchmark
    from actfer_env.evaluation.benchmarks import open_benchmark as open_at
    from actfer_env.packages import needs

    check_benchmark(name, root)
    with needs("tables"):  # before anything is played
        import rouge_score  # noqa: F401
        import sklearn  # noqa: F401
    if against is not None:
        read_benchmark(against)
    found = open_at(name, root, number)
    for part in found.parts:
        official = "" if part.count in (None, len(part.dataset)) else f" of {part.count:,}"
        say(f"{found.title}, {part.title}: {len(part.dataset):,}{official} items")
    return found


def one_part(dataset: Dataset) -> Benchmark:
    """Return a data set as a benchmark without a name, which is played into its folder itself and has no tables."""
    from actfer_env.evaluation.benchmarks import Benchmark, Part

    return Benchmark("", "", (Part("", dataset.name, dataset),))


def config_of(part: Part, config: EvalConfig) -> EvalConfig:
    """Return the settings of one test set: its labels are the emotions that an answer may name."""
    return replace(config, episode=replace(config.episode, emotions=part.labels)) if part.labels else config


def play_benchmark(
    benchmark: Benchmark, out: Path, play: Callable[[Part, Path], None], against: Path | None = None
) -> None:
    """Play every test set into a folder of its own, and write the tables when all are played.

    Args:
        benchmark: The benchmark, opened; or one of `one_part`.
        out: The folder.
        play: Plays a set into a folder, and leaves a run there; what is finished in it is not played again.
        against: Folder of another run's tables; gives each emotion's gain.

    Raises:
        DataError: the folder holds another benchmark, or it cannot be written.
    """
    from actfer_env.evaluation import read_run
    from actfer_env.evaluation.benchmarks import add_gain, benchmark_figures, read_benchmark, write_benchmark

    if not benchmark.name:
        play(benchmark.parts[0], out)
        return
    check_writable(out)
    _claim(out, benchmark)
    runs: dict[str, Run] = {}
    failed = False
    for part in benchmark.parts:
        say(f"\n{part.title}")
        try:
            play(part, out / part.name)
        except typer.Exit as ending:
            failed = failed or bool(ending.exit_code)
        runs[part.name] = read_run(out / part.name)
        if any("stopped" in failure for failure in runs[part.name].failures):  # it ended before its last item
            say(f"stopped in {part.title}; the same command goes on there, and writes the tables at the end")
            raise typer.Exit(1)
    figures = benchmark_figures(benchmark, runs)
    if against is not None:
        add_gain(figures, read_benchmark(against))
    for path in write_benchmark(out, figures):
        say(f"table:    {path}")
    if failed:
        raise typer.Exit(1)


def _claim(out: Path, benchmark: Benchmark) -> None:
    """Write what the folder is for; refuse a folder of another benchmark, or of other lists of items."""
    from actfer_env.evaluation.export import BENCHMARK_FILE

    facts: dict[str, Any] = {"benchmark": benchmark.name}
    facts |= {part.name: dict(part.facts) for part in benchmark.parts if part.facts}
    path = out / BENCHMARK_FILE
    if path.exists():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise DataError(f"{path} is broken ({error}): delete it or choose another folder") from error
        refuse_other(out, "benchmark", found, facts)
    elif (out / "run.json").exists():
        raise DataError(f"{out} holds a run that is no benchmark's: choose another folder with --out")
    write_text_atomic(path, json.dumps(facts, indent=1) + "\n")
