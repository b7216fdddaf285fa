"""Commands that play the tools: demo, rollout, play, report; and the one that exports a policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
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
    RootOption,
    SeedOption,
    SkipBrokenOption,
    SplitOption,
    TargetArgument,
    TurnsOption,
    ZoomOption,
    ZoomsOption,
    au_set_of,
    open_dataset,
    reward_of,
)
from actfer_env.cli.output import complain, first_of, follow, print_summary, progress_bar, say
from actfer_env.errors import DataError, ImageError
from actfer_env.files import check_writable, new_folder, write_text_atomic

if TYPE_CHECKING:
    from actfer_env.agents.light.export import ExportFormat
    from actfer_env.data import Dataset
    from actfer_env.evaluation import Run
    from actfer_env.evaluation.play import RolloutConfig
    from actfer_env.rollout import Rollout

DEMO_AGENTS = ("full:truth", "simplified:happiness", "blind:neutral", "random:unmasked")
DEMO_SAMPLES = 12


def demo(
    out: OutOption = Path("actfer-demo"),
    detector: DetectorOption = "auto",
    seed: SeedOption = 0,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Pictures.")] = DEMO_SAMPLES,
    au_set: AUSetOption = None,
    agent: Annotated[
        str | None, typer.Option(help="An agent that plays beside the scripts, such as light:FOLDER.")
    ] = None,
) -> None:
    """Play scripted and random episodes on drawn faces and the astronaut portrait, and write a report.

    Each picture is played four times, as a query group: with zooming, without, without looking at all, and at
    random; and once by --agent. No script looks at pictures; the demo shows the tools and the rewards.
    """
    from actfer_env.data import load_dataset
    from actfer_env.evaluation.play import config_for

    agents = DEMO_AGENTS if agent is None else (*DEMO_AGENTS, agent)
    config = config_for(agents, group_size=len(agents), seed=seed, number=number, **_given(detector, au_set))
    dataset = load_dataset("demo")
    say(dataset.describe(number))
    play_and_report(dataset, config, out)


def rollout(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: TargetArgument,
    out: OutOption = Path("actfer-out"),
    agent: Annotated[
        str,
        typer.Option(
            help="full, simplified, degraded, blind (each with :truth or :EMOTION), random, light:FOLDER, "
            "sb3:FILE (each with :sample), module:Class; commas mix them."
        ),
    ] = "full",
    detector: DetectorOption = "auto",
    split: SplitOption = None,
    number: Annotated[
        int | None, typer.Option("--number", "-n", min=1, help="Samples to play; all if left out.")
    ] = None,
    group_size: Annotated[int, typer.Option(min=1, help="Episodes of one sample, which form a query group.")] = 1,
    seed: SeedOption = 0,
    max_turns: TurnsOption = None,
    max_zooms: ZoomsOption = None,
    variant: Annotated[
        str, typer.Option(help="Reward: full, no_ema, zoom_biased, au_grounded, emotion_only.")
    ] = "full",
    fields: FieldsOption = [],  # noqa: B006
    preset: PresetOption = None,
    empty_aus: EmptyAUsOption = None,
    au_set: AUSetOption = None,
    skip_broken: SkipBrokenOption = False,
    embed: EmbedOption = False,
    root: RootOption = None,
    zoom: ZoomOption = "free",
) -> None:
    """Play episodes over photos or a data set; write rollouts.jsonl, run.json and report.html.

    Scripted and random agents only play the tools: nobody reads the faces then, and no emotion is shown. A trained
    agent plays with the sizes and budgets of its training.
    """
    from actfer_env.evaluation.play import config_for

    agents = tuple(part.strip() for part in agent.split(","))
    config = config_for(
        agents, group_size=group_size, number=number, seed=seed, max_turns=max_turns, max_zooms=max_zooms,
        reward=reward_of(fields, variant), zoom=zoom, **_given(detector, au_set),
    )  # fmt: skip
    dataset = open_dataset(target, split, skip_broken, empty_aus=empty_aus, preset=preset, number=number, root=root)
    play_and_report(dataset, config, out, embed)


def play(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: Annotated[
        str, typer.Argument(help="A folder, an image, a .jsonl file, or a registered data set.")
    ] = "synthetic",
    out: OutOption = Path("actfer-play"),
    detector: DetectorOption = "auto",
    split: SplitOption = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Samples, drawn by the seed.")] = 1,
    seed: SeedOption = 0,
    max_turns: TurnsOption = None,
    max_zooms: ZoomsOption = None,
    window: Annotated[bool, typer.Option("--window", help="Show each turn in a window too.")] = False,
    image_size: Annotated[int, typer.Option(min=16, help="Side of the raw picture that is shown, pixels.")] = 96,
    fields: FieldsOption = [],  # noqa: B006
    preset: PresetOption = None,
    empty_aus: EmptyAUsOption = None,
    au_set: AUSetOption = None,
    skip_broken: SkipBrokenOption = False,
    root: RootOption = None,
) -> None:
    """Inspect faces by keyboard: detect, zoom, answer; then see the reward. Writes what `actfer rollout` writes.

    One line a turn, also from a pipe: `printf 'd\\nz mouth\\na happiness 6 12\\n' | actfer play`. `q` stops; finished
    episodes are kept, and the same command goes on with the next samples.
    """
    from actfer_env.agents.person import PersonAgent, StopPlayingError
    from actfer_env.evaluation.play import config_for, make_env, play_episode
    from actfer_env.evaluation.run import finished_run, read_run
    from actfer_env.rewards.explain import explain_rollout

    config = config_for(("person",), number=number, seed=seed, max_turns=max_turns, max_zooms=max_zooms,
                        image_size=image_size, reward=reward_of(fields), **_given(detector, au_set))  # fmt: skip
    dataset = open_dataset(target, split, skip_broken, empty_aus=empty_aus, preset=preset, number=number, root=root)
    check_writable(out)
    rollouts: list[Rollout] = list(read_run(out).rollouts) if holds_run(out, dataset, config) else []
    if earlier := len(rollouts):
        say(f"{earlier} episodes of earlier sessions in {out} are kept")
    env = make_env(dataset, config, "human" if window else None)
    person = PersonAgent(env.action_space, config.au_set)
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()

    def scored() -> Run:
        return finished_run(rollouts, dataset.arguments, config.settings(), config.reward, failures)

    failures: list[dict[str, str]] = []
    try:
        for episode in range(earlier, earlier + min(number, len(order))):
            again, place = divmod(episode, len(order))
            options = {"sample": order[place], "group": dataset[order[place]].id, "member": again}
            try:
                rollouts.append(play_episode(env, person, options, seed))
            except ImageError as error:
                complain(str(error))
                failures.append({"sample_id": options["group"], "error": str(error)})
                continue
            told = explain_rollout(rollouts[-1], scored().scores, len(rollouts) - 1, config.reward)
            person.tell(rollouts[-1], told)
    except (StopPlayingError, KeyboardInterrupt):
        done = len(rollouts) - earlier
        say(f"stopped; {done} finished episodes are kept" if done else "stopped")
    finally:
        env.close()
    if len(rollouts) == earlier:
        raise DataError("no episode was finished: nothing is written")
    _write(scored(), dataset, out)


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of a run.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="A second run, for a page of both side by side.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Where the pictures lie by now, if they were moved.")] = None,
    au_set: AUSetOption = None,
    embed: EmbedOption = False,
    pictures: Annotated[
        int, typer.Option(min=0, help="Episodes with pictures (pairs, of two runs), spread over outcomes and emotions.")
    ] = 400,
) -> None:
    """Rebuild a run's report from its stored rollouts; recompute every reward and compare it with the stored one.

    Where pictures cannot be found, a report that shows them is kept. With a second run, RUN/side_by_side.html shows
    the samples that both have, disagreements first.
    """
    from actfer_env.evaluation import read_run, write_run
    from actfer_env.evaluation.pictures import PictureConfig, Pictures, embed_pictures
    from actfer_env.evaluation.report import rebuild

    config = PictureConfig(episodes=pictures)
    run = _with_root(read_run(folder), root)
    if other is not None:
        from actfer_env.evaluation.side_by_side import write_side_by_side

        if embed or au_set is not None:
            raise DataError("--embed and --au-set go with one run, not with two")
        both = (run, _with_root(read_run(other), root))
        say(f"side by side: {write_side_by_side(folder, other, both, pictures=config)}")
        return
    units = None if au_set is None else au_set_of(au_set)
    if embed:
        run = embed_pictures(folder, run)
        write_run(folder, run)
    differences = run.mismatches()
    for line in differences:
        complain(line)
    say(
        f"{len(run.rollouts)} rollouts, rewards recomputed: {len(differences) or 'no'} differences from the stored ones"
    )
    drawer = Pictures(run, config, folder)
    path = rebuild(folder, run, drawer, au_set=units)
    if drawer.lost:
        complain(drawer.why_lost())
    say(f"report: {path}")
    if units is not None:
        print_summary(run, units)
        say(f"Action Units: {facs.format_au_set(units)} in the tables; the rewards are those of the stored run")
    if differences or drawer.lost:
        raise typer.Exit(1)


def _with_root(run: Run, root: Path | None) -> Run:
    """Return a run whose pictures are looked for in another place, if one is given."""
    if root is None:
        return run
    if not root.exists():
        raise DataError(f"--root {root}: no such file or folder")
    return run.replace(dataset={**run.dataset, "root": str(root.resolve())})


def export_policy(
    folder: Annotated[Path, typer.Argument(help="The --out folder of 'actfer train'.")],
    to: Annotated[str, typer.Option(help="onnx or torchscript.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The file; policy.onnx or policy.ts if left out.")] = None,
) -> None:
    """Write a trained policy as one file that needs no part of this package."""
    endings = {"onnx": "onnx", "torchscript": "ts"}
    if to not in endings:
        raise DataError(f"unknown format {to!r}: use one of {', '.join(endings)}")
    from actfer_env.agents import LightAgent

    written = LightAgent.load(folder).export(out or folder / f"policy.{endings[to]}", cast("ExportFormat", to))
    say(f"policy: {written}")


def _given(detector: str, au_set: str | None) -> dict[str, Any]:
    """Return the fields of `RolloutConfig` that were chosen; the others are left to the agents."""
    return {
        "detector": None if detector == "auto" else detector, "au_set": None if au_set is None else au_set_of(au_set),
    }  # fmt: skip


def play_and_report(
    dataset: Dataset, config: RolloutConfig, out: Path, embed: bool = False, evaluation: bool = False
) -> None:
    """Play episodes, print their figures, and write the run and its report.

    What was killed goes on with the same command.

    Args:
        dataset: The samples.
        config: Agents and budgets.
        out: The folder.
        embed: Copy the pictures into it.
        evaluation: Keep what is finished, as an evaluation does, and write the figures to summary.json too; else a run
            that is complete is played again, into its place.

    Raises:
        DataError: no episode could be played, or the folder cannot be written, or holds another run.
    """
    from actfer_env.evaluation.journal import forget
    from actfer_env.evaluation.play import play as play_all

    check_writable(out)
    if not evaluation:
        check_kept(out, dataset, config)
    with new_folder(out), progress_bar() as progress:
        run = play_all(dataset, config, follow(progress), out, evaluation=evaluation)
    if not run.rollouts:
        raise DataError(f"no episode could be played: {first_of(run.failures)}")
    for failure in run.failures:
        complain(failure["error"])
    _write(run, dataset, out, embed)
    stopped = any(not failure["sample_id"] for failure in run.failures)  # it ended before the last sample
    if evaluation:
        from actfer_env.evaluation import summarize

        figures = summarize(run.rollouts, run.scores, run.au_set)
        write_text_atomic(out / "summary.json", json.dumps(figures.to_dict(), indent=1) + "\n")
    elif not stopped:
        forget(out)
    if stopped:
        raise typer.Exit(1)


def _write(run: Run, dataset: Dataset, out: Path, embed: bool = False) -> None:
    """Write a run and its report, and print its figures."""
    from actfer_env.evaluation import write_report, write_run
    from actfer_env.evaluation.pictures import embed_pictures
    from actfer_env.evaluation.report import script_notice

    if embed:
        run = embed_pictures(out, run, dataset)
    write_run(out, run)
    path = write_report(out, run, keep=False)  # an earlier report is of an earlier run
    print_summary(run)
    if notice := script_notice(run):
        say(notice)
    say(f"rollouts: {out / 'rollouts.jsonl'}\nreport:   {path}")


def holds_run(out: Path, dataset: Dataset, config: RolloutConfig) -> bool:
    """True if a folder holds a run of these settings; one of another run, or of an evaluation, is refused."""
    from actfer_env.evaluation.journal import SETTINGS
    from actfer_env.evaluation.run import refuse_other_run

    if (out / SETTINGS).exists():
        raise DataError(f"{out} holds an evaluation: choose another folder with --out")
    return refuse_other_run(out, dataset.arguments, config.settings())


def check_kept(out: Path, dataset: Dataset, config: RolloutConfig) -> None:
    """Say so when the same run is played anew into its folder; refuse a folder of another run, or of an evaluation."""
    if holds_run(out, dataset, config):
        say(f"the earlier run in {out} will be replaced")
