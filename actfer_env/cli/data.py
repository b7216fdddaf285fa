"""Commands about data sets: list, check, gallery, verl, precompute, prepare."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actfer_env import facs
from actfer_env.cli.options import (
    DRAWN,
    AUSetOption,
    DetectorOption,
    EmptyAUsOption,
    OutOption,
    PresetOption,
    RootOption,
    SeedOption,
    SkipBrokenOption,
    SplitOption,
    TargetArgument,
    ToolsOption,
    au_set_of,
    field_values,
    open_dataset,
    tools_of,
)
from actfer_env.cli.output import complain, console, follow, progress_bar, say

if TYPE_CHECKING:
    from actfer_env.data.check import CheckReport


def data_list() -> None:
    """List the registered data sets."""
    from rich.table import Table

    from actfer_env.data import registered_datasets

    table = Table("name", "what", title="Data sets")
    for name, loader in sorted(registered_datasets().items()):
        words = (loader.__doc__ or "").strip()  # none under python -OO
        table.add_row(name, words.partition("\n")[0])
    console().print(table)


def data_check(
    name: Annotated[str, typer.Argument(help="A registered data set; see `actfer data list`.")],
    root: Annotated[str | None, typer.Option(help="Its folder or file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Read every picture; else lists and labels alone.")
    ] = True,
    distance: Annotated[
        int, typer.Option(min=0, max=8, help="Bits in which hashes of near-duplicates differ at most.")
    ] = 4,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Samples; all if left out.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read pictures.")] = 1,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="An option of the loader; may be given again."),
    ] = None,
) -> None:
    """Inspect a data set: edition, counts, missing and broken pictures, label order, what is in two splits.

    The exit code is 0 where no fault was found, 1 where there are faults.
    """
    from actfer_env.data.check import CheckConfig, check_dataset

    config = CheckConfig(pictures, distance, number, workers)
    with progress_bar() as progress:
        report = check_dataset(name, root, config, field_values(options or [], "--option"), follow(progress))
    if as_json:
        say(json.dumps(report.to_dict(), indent=2))
    elif [finding.kind for finding in report.findings] == ["cannot be loaded"]:
        complain(report.findings[0].text)  # there is nothing to tell of it
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _print_report(report: CheckReport) -> None:
    from rich.markup import escape
    from rich.table import Table

    out = console()
    out.print(f"[bold]{escape(report.title)}[/]{f': {escape(report.edition)}' if report.edition else ''}")
    facts = {
        "folder": report.root,
        "ask for it at": report.licence,
        "classes in order": ", ".join(report.order),
        "Action Units": " ".join(map(facs.format_au, report.aus)),
        "subjects": ", ".join(f"{split} {number:,}" for split, number in report.subjects.items()),
    }
    table = Table.grid("", "", padding=(0, 2))
    for what, value in facts.items():
        if value:
            table.add_row(what, escape(str(value)))
    out.print(table)
    samples = {split: {**part, "all": sum(part.values())} for split, part in report.counts.items()}
    if "all" in report.official:
        samples["all"] = dict(sum(map(Counter, samples.values()), Counter()))
    units = {split: {**part, "annotated": report.coded.get(split, 0)} for split, part in report.units.items()}
    order = [*report.order, *facs.EMOTIONS, "no emotion", "all", *map(facs.format_au, facs.AU_NAMES), "annotated"]
    for title, columns, official in (("Samples", samples, report.official), ("Active Action Units", units, {})):
        if not any(len(part) > 1 for part in columns.values()):
            continue
        table = Table("", title=title, title_justify="left")
        for split in columns:
            table.add_column(split, justify="right")
        for name in dict.fromkeys(order):
            if any(name in part for part in columns.values()):
                cells = [f"{part.get(name, 0):,}" for part in columns.values()]
                whole = [official.get(split, {}).get(name) for split in columns]
                pairs = zip(cells, whole, strict=True)
                table.add_row(name, *(f"{here} / {number:,}" if number else here for here, number in pairs))
        out.print(table)
    if report.official:
        out.print("found / official")
    table = Table.grid("", "", padding=(0, 2))
    for finding in report.findings:
        style, word = ("bold red", "fault") if finding.fault else ("yellow", "note")
        table.add_row(f"[{style}]{word}[/]", escape(finding.text))
    out.print(table)
    faults = sum(finding.fault for finding in report.findings)
    out.print("no faults" if report.ok else "one kind of fault" if faults == 1 else f"{faults} kinds of faults")


def gallery(
    out: OutOption = Path("actfer-gallery"),
    size: Annotated[int, typer.Option(min=64, max=512, help="Side of a face in pixels.")] = 192,
    people: Annotated[int, typer.Option(min=1, max=40, help="People in each row of the sheet by emotion.")] = 6,
    seed: SeedOption = 0,
) -> None:
    """Draw contact sheets of the synthetic faces, by emotion and by Action Unit and intensity (PNG and HTML)."""
    from actfer_env.data.synthetic.gallery import GalleryConfig, write_gallery

    for path in write_gallery(out, GalleryConfig(size, people, seed)):
        say(str(path))


def data_verl(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: TargetArgument,
    out: OutOption = Path("actfer-verl"),
    split: SplitOption = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Rows; all if left out.")] = None,
    root: RootOption = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Rows of a file.")] = 10_000,
    images: Annotated[str, typer.Option(help="auto, path, bytes or none.")] = "auto",
    preset: PresetOption = None,
    empty_aus: EmptyAUsOption = None,
    au_set: AUSetOption = None,
    tools: ToolsOption = None,
    skip_broken: SkipBrokenOption = False,
) -> None:
    """Write a data set as parquet for verl, and check what was written."""
    from actfer_env.episode import EpisodeConfig
    from actfer_env.rewards.guards import IDLE_AUS
    from actfer_env.verl_plugin.rows import ParquetConfig, write_parquet

    config = ParquetConfig(shard_size=shard_size, images=images, number=number)  # type: ignore[arg-type]
    episode = EpisodeConfig(au_set=au_set_of(au_set), tools=tools_of(tools))
    dataset = open_dataset(
        target, split, skip_broken, empty_aus=empty_aus, preset=preset, number=number, root=root
    )  # fmt: skip
    for path in write_parquet(dataset, out, config, episode=episode):
        say(str(path))
    if not any(sample.aus is not None for sample, _ in zip(dataset, range(number or len(dataset)), strict=False)):
        complain(IDLE_AUS)
    if au_set is not None:
        say(f"Action Units: {facs.format_au_set(episode.au_set)}; "
            f"give the agent loop the same, episode: {{au_set: {list(episode.au_set)}}}")  # fmt: skip
    if tools is not None:
        names = ", ".join(map(str, episode.tools))
        say(f"tools: {names}; give the agent loop the same, episode: {{tools: [{names}]}}")


def data_precompute(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: TargetArgument,
    out: OutOption = Path("actfer-detections"),
    detector: DetectorOption = "auto",
    root: RootOption = None,
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

    dataset = open_dataset(target, split, skip_broken, preset=preset, number=number, root=root)
    config = PrecomputeConfig(detector, shard_size, number, workers, part)
    make_detector(detector)  # a wrong one is refused before the bar appears
    with progress_bar() as progress:
        done = precompute(dataset, out, config, follow(progress))
    for line in done.failures:
        complain(line)
    say(f"{done.detected} detected ({done.faceless} without a face), {done.kept} known before, "
         f"{done.prealigned} aligned already")  # fmt: skip
    say(f"use them: --detector cached:{out.resolve()}")
    if done.unread:
        raise typer.Exit(1)


def data_prepare(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    name: Annotated[str, typer.Argument(help="A registered data set, a folder, an image, or a .jsonl file.")],
    out: OutOption,
    root: RootOption = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; all of them if left out.")] = None,
    detector: DetectorOption = "auto",
    number: Annotated[
        int | None, typer.Option("--number", "-n", min=1, help="Samples of each split; all if left out.")
    ] = None,
    image_size: Annotated[int, typer.Option(min=16, help="Side of the raw picture, pixels.")] = 96,
    face_size: Annotated[int, typer.Option(min=16, help="Side of the aligned face, pixels.")] = 64,
    crop_size: Annotated[int, typer.Option(min=16, help="Side of a crop, pixels.")] = 48,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if left out.")] = None,
    preset: PresetOption = None,
    empty_aus: EmptyAUsOption = None,
    skip_broken: SkipBrokenOption = False,
) -> None:
    """Detect, align and crop every picture of a data set once; everything then takes prepared:FOLDER as a data set.

    The same command goes on where an interrupted one stopped.
    """
    from actfer_env.data.prepared import prepare_dataset
    from actfer_env.data.views import ViewConfig
    from actfer_env.splits import SPLITS
    from actfer_env.tools import make_detector

    make_detector(detector)  # a wrong one is refused before the bar appears
    splits = SPLITS if split is None and name in DRAWN else (split,)
    datasets = [open_dataset(name, one, skip_broken, empty_aus=empty_aus, preset=preset, root=root) for one in splits]
    config = ViewConfig(image_size, face_size, crop_size, detector)
    with progress_bar() as progress:
        made = prepare_dataset(datasets, out, config, number=number, workers=workers, watch=follow(progress))
    views = made.views
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    say(f"{made.describe()}, {int((~views.found).sum())} without a face; {size / 2**20:,.0f} MiB")
    say(f"use it: prepared:{out.resolve()}")
