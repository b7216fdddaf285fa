"""Commands that play the tools: demo, rollout, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actfer_env import facs
from actfer_env.cli.options import (
    AUSetOption,
    DetectorOption,
    EmbedOption,
    EmptyAUsOption,
    FieldsOption,
    OutOption,
    PresetOption,
    SeedOption,
    SkipBrokenOption,
    SplitOption,
    TargetArgument,
    au_set_of,
    open_dataset,
    reward_of,
)
from actfer_env.cli.output import complain, print_summary, progress_bar, say
from actfer_env.errors import DataError
from actfer_env.files import check_writable

if TYPE_CHECKING:
    from actfer_env.data import Dataset
    from actfer_env.evaluation.play import RolloutConfig

DEMO_AGENTS = ("full:truth", "simplified:happiness", "blind:neutral", "random:unmasked")
DEMO_SAMPLES = 12


def demo(
    out: OutOption = Path("actfer-demo"),
    detector: DetectorOption = "auto",
    seed: SeedOption = 0,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Pictures.")] = DEMO_SAMPLES,
    au_set: AUSetOption = None,
) -> None:
    """Play scripted and random episodes on drawn faces and the astronaut portrait, and write a report.

    Each picture is played four times, as a query group: with zooming, without, without looking at all, and at
    random. No agent here looks at pictures; the demo shows the tools and the rewards.
    """
    from actfer_env.data import load_dataset
    from actfer_env.evaluation.play import RolloutConfig

    config = RolloutConfig(agents=DEMO_AGENTS, group_size=len(DEMO_AGENTS), detector=detector, seed=seed, number=number,
                           au_set=au_set_of(au_set))  # fmt: skip
    dataset = load_dataset("demo")
    say(dataset.describe(number))
    _play(dataset, config, out)


def rollout(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: TargetArgument,
    out: OutOption = Path("actfer-out"),
    agent: Annotated[
        str,
        typer.Option(help="full, simplified, degraded, blind (each with :truth or :EMOTION), random; commas mix them."),
    ] = "full",
    detector: DetectorOption = "auto",
    split: SplitOption = None,
    number: Annotated[
        int | None, typer.Option("--number", "-n", min=1, help="Samples to play; all if left out.")
    ] = None,
    group_size: Annotated[int, typer.Option(min=1, help="Episodes of one sample, which form a query group.")] = 1,
    seed: SeedOption = 0,
    max_turns: Annotated[int, typer.Option(min=1, help="Turns of an episode.")] = 6,
    max_zooms: Annotated[int, typer.Option(min=0, help="Crops of an episode.")] = 4,
    variant: Annotated[
        str, typer.Option(help="Reward: full, no_ema, zoom_biased, au_grounded, emotion_only.")
    ] = "full",
    fields: FieldsOption = [],  # noqa: B006
    preset: PresetOption = None,
    empty_aus: EmptyAUsOption = None,
    au_set: AUSetOption = None,
    skip_broken: SkipBrokenOption = False,
    embed: EmbedOption = False,
) -> None:
    """Play episodes over photos or a data set; write rollouts.jsonl, run.json and report.html.

    Scripted and random agents only play the tools: nobody reads the faces then, and no emotion is shown.
    """
    from actfer_env.evaluation.play import RolloutConfig

    agents = tuple(part.strip() for part in agent.split(","))
    config = RolloutConfig(
        agents=agents, detector=detector, group_size=group_size, number=number, seed=seed,
        max_turns=max_turns, max_zooms=max_zooms, reward=reward_of(fields, variant), au_set=au_set_of(au_set),
    )  # fmt: skip
    dataset = open_dataset(target, split, skip_broken, empty_aus=empty_aus, preset=preset, number=number)
    _play(dataset, config, out, embed)


def report(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a run.")],
    root: Annotated[Path | None, typer.Option(help="Where the pictures lie by now, if they were moved.")] = None,
    au_set: AUSetOption = None,
    embed: EmbedOption = False,
) -> None:
    """Rebuild a run's report from its stored rollouts; recompute every reward and compare it with the stored one.

    Where pictures cannot be found, a report that shows them is kept.
    """
    from actfer_env.evaluation import read_run, write_run
    from actfer_env.evaluation.pictures import Pictures, embed_pictures
    from actfer_env.evaluation.report import rebuild

    run = read_run(folder)
    units = None if au_set is None else au_set_of(au_set)
    if root is not None:
        if not root.exists():
            raise DataError(f"--root {root}: no such file or folder")
        run = run.replace(dataset={**run.dataset, "root": str(root.resolve())})
    if embed:
        run = embed_pictures(folder, run)
        write_run(folder, run)
    differences = run.mismatches()
    for line in differences:
        complain(line)
    say(
        f"{len(run.rollouts)} rollouts, rewards recomputed: {len(differences) or 'no'} differences from the stored ones"
    )
    pictures = Pictures(run, folder=folder)
    path = rebuild(folder, run, pictures, au_set=units)
    if pictures.lost:
        complain(pictures.why_lost())
    say(f"report: {path}")
    if units is not None:
        print_summary(run, units)
        say(f"Action Units: {facs.format_au_set(units)} in the tables; the rewards are those of the stored run")
    if differences or pictures.lost:
        raise typer.Exit(1)


def _play(dataset: Dataset, config: RolloutConfig, out: Path, embed: bool = False) -> None:
    from actfer_env.evaluation import write_report, write_run
    from actfer_env.evaluation.pictures import embed_pictures
    from actfer_env.evaluation.play import play
    from actfer_env.evaluation.report import script_notice

    check_writable(out)
    _check_kind(out)
    total = min(config.number or len(dataset), len(dataset)) * config.group_size
    with progress_bar() as progress:
        task = progress.add_task("episodes", total=total)
        run = play(dataset, config, lambda name: progress.advance(task))
    for failure in run.failures:
        complain(failure["error"])
    if not run.rollouts:
        raise DataError("no episode could be played")
    if embed:
        run = embed_pictures(out, run, dataset)
    write_run(out, run)
    path = write_report(out, run, keep=False)  # an earlier report is of an earlier run
    print_summary(run)
    if notice := script_notice(run):
        say(notice)
    say(f"rollouts: {out / 'rollouts.jsonl'}\nreport:   {path}")
    if any(not failure["sample_id"] for failure in run.failures):  # it ended before the last sample
        raise typer.Exit(1)


def _check_kind(out: Path) -> None:
    """Keep rollouts out of the folder of an evaluation, and say so when an earlier run is replaced."""
    from actfer_env.evaluation.evaluate import SETTINGS

    if (out / SETTINGS).exists():
        raise DataError(f"{out} holds an evaluation: choose another folder with --out")
    if (out / "run.json").exists():
        say(f"the earlier run in {out} will be replaced")
