"""Commands about data sets: list, gallery, verl, precompute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actfer_env import facs
from actfer_env.cli.options import (
    AUSetOption,
    DetectorOption,
    EmptyAUsOption,
    OutOption,
    PresetOption,
    SeedOption,
    SkipBrokenOption,
    SplitOption,
    TargetArgument,
    au_set_of,
    open_dataset,
)
from actfer_env.cli.output import complain, console, progress_bar, say


def data_list() -> None:
    """List the registered data sets."""
    from rich.table import Table

    from actfer_env.data import registered_datasets

    table = Table("name", "what", title="Data sets")
    for name, loader in registered_datasets().items():
        words = (loader.__doc__ or "").strip()  # none under python -OO
        table.add_row(name, words.partition("\n")[0])
    console().print(table)


def gallery(
    out: OutOption = Path("actfer-gallery"),
    size: Annotated[int, typer.Option(min=64, max=512, help="Side of a face in pixels.")] = 192,
    people: Annotated[int, typer.Option(min=1, max=40, help="People in each row of the sheet by emotion.")] = 6,
    seed: SeedOption = 0,
) -> None:
    """Draw contact sheets of the synthetic faces, by emotion and by Action Unit and intensity (PNG and HTML)."""
    from actfer_env.data.gallery import GalleryConfig, write_gallery

    for path in write_gallery(out, GalleryConfig(size, people, seed)):
        say(str(path))


def data_verl(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: TargetArgument,
    out: OutOption = Path("actfer-verl"),
    split: SplitOption = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Rows; all if left out.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Rows of a file.")] = 10_000,
    images: Annotated[str, typer.Option(help="auto, path, bytes or none.")] = "auto",
    preset: PresetOption = None,
    empty_aus: EmptyAUsOption = None,
    au_set: AUSetOption = None,
    skip_broken: SkipBrokenOption = False,
) -> None:
    """Write a data set as parquet for verl, and check what was written."""
    from actfer_env.data.parquet import ParquetConfig, write_parquet
    from actfer_env.episode import EpisodeConfig

    config = ParquetConfig(shard_size=shard_size, images=images, number=number)  # type: ignore[arg-type]
    episode = EpisodeConfig(au_set=au_set_of(au_set))
    dataset = open_dataset(target, split, skip_broken, empty_aus=empty_aus, preset=preset, number=number)
    for path in write_parquet(dataset, out, config, episode=episode):
        say(str(path))
    if au_set is not None:
        say(f"Action Units: {facs.format_au_set(episode.au_set)}; "
            f"give the agent loop the same, episode: {{au_set: {list(episode.au_set)}}}")  # fmt: skip


def data_precompute(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: TargetArgument,
    out: OutOption = Path("actfer-detections"),
    detector: DetectorOption = "auto",
    split: SplitOption = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Samples; all if left out.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    part: Annotated[tuple[int, int], typer.Option(help="I N: the I-th of N parts, from 0; one a machine.")] = (0, 1),
    shard_size: Annotated[int, typer.Option(min=1, help="Samples of a shard, about.")] = 512,
    preset: PresetOption = None,
    skip_broken: SkipBrokenOption = False,
) -> None:
    """Detect every picture of a data set once; every command and worker then takes --detector cached:FOLDER.

    The same command goes on where an interrupted one stopped, and makes changed pictures again.
    """
    from actfer_env.data.precompute import PrecomputeConfig, precompute
    from actfer_env.tools import make_detector

    dataset = open_dataset(target, split, skip_broken, preset=preset, number=number)
    config = PrecomputeConfig(detector, shard_size, number, workers, part)
    make_detector(detector)  # a wrong one is refused before the bar appears
    with progress_bar() as progress:
        task = progress.add_task("pictures", total=min(len(dataset), number or len(dataset)))
        done = precompute(dataset, out, config, lambda so_far: progress.update(task, completed=so_far.total))
    for line in done.failures:
        complain(line)
    say(f"{done.detected} detected ({done.faceless} without a face), {done.kept} known before, "
         f"{done.prealigned} aligned already")  # fmt: skip
    say(f"use them: --detector cached:{out.resolve()}")
    if done.unread:
        raise typer.Exit(1)
