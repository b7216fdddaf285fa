"""Commands that train a light policy: train, ablate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from actfer_env.cli.options import (
    CacheOption,
    DetectorOption,
    FieldsOption,
    LookOption,
    OutOption,
    RootOption,
    SeedOption,
    ZoomCostOption,
    reward_fields,
)
from actfer_env.cli.output import console, progress_bar, say
from actfer_env.errors import DataError, SettingsError
from actfer_env.files import check_writable
from actfer_env.packages import needs

NameOption = Annotated[
    str | None,
    typer.Option(
        "--dataset", help="A registered data set, or prepared:FOLDER; see `actfer data list`.",
        show_default="synthetic-mixed",
    ),
]  # fmt: skip
DataPresetOption = Annotated[
    str | None, typer.Option("--data-preset", help="Of drawn faces: easy, standard, hard, mixed or subtle.")
]
SplittingOption = Annotated[
    str,
    typer.Option("--split", help="Where train, val and test come from: own, subject (people apart), share, or auto."),
]
SplitSeedOption = Annotated[int, typer.Option(min=0, help="Seed of splits that are drawn.")]
BalanceOption = Annotated[
    str,
    typer.Option(help="draw (rare emotions as often as common ones), weights (in the warm start's loss), none, or "
                 "auto: draw but of drawn faces."),
]  # fmt: skip
SizesOption = Annotated[
    str | None,
    typer.Option(metavar="RAW,FACE,CROP", help="Sides of the pictures in pixels: multiples of 16, 8 and 8.",
                 show_default="96,64,48; those of a prepared folder"),
]  # fmt: skip
RLShareOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=0.99, help="Share of the training samples for UC-GRPO alone; 0: both learn from all.",
                 show_default="0.4, of drawn faces 0"),
]  # fmt: skip


def train(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    preset: Annotated[str, typer.Option(help="smoke, quick (three minutes), paper or long.")] = "quick",
    variant: Annotated[
        str,
        typer.Option(
            help="Reward: full, no_ema, zoom_biased, au_grounded, emotion_only, task_only, facial_r1, tag, deepeyes, "
            "adatooler, hdpo, visionthink, autotool, nemo_gym."
        ),
    ] = "full",
    seed: SeedOption = 0,
    out: OutOption = Path("actfer-train"),
    cache: CacheOption = Path("actfer-cache"),
    zoom_cost: ZoomCostOption = None,
    outcome_gate: Annotated[
        bool, typer.Option("--outcome-gate", help="Task reward alone in groups without a right answer.")
    ] = False,
    no_std: Annotated[bool, typer.Option("--no-std", help="Do not divide advantages by the group's std.")] = False,
    max_zooms: LookOption = 4,
    fields: FieldsOption = [],  # noqa: B006
    dataset: NameOption = None,
    root: RootOption = None,
    split: SplittingOption = "auto",
    data_preset: DataPresetOption = None,
    detector: DetectorOption = "auto",
    split_seed: SplitSeedOption = 0,
    balance: BalanceOption = "auto",
    rl_share: RLShareOption = None,
    sizes: SizesOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that draw; all cores if left out.")] = None,
) -> None:
    """Train a light inspection policy with UC-GRPO on drawn faces or a data set, and measure it on held-out people.

    The same command goes on where an interrupted one stopped.
    """
    session = light_session()
    from actfer_env.agents.light.examples import write_examples

    session.check_variant(variant)
    config = replace(
        data_of(light_preset(preset), dataset, root, split, data_preset, detector, split_seed, balance, rl_share,
                sizes),
        variant=variant, seed=seed, zoom_cost=zoom_cost or 0.0, outcome_gate=outcome_gate,
        normalize_std=not no_std, max_zooms=max_zooms, reward=reward_fields(fields, zoom_cost=zoom_cost),
    )  # fmt: skip
    check_writable(out)
    say(_data_of(config))
    with progress_bar() as progress:
        result = session.run(config, out, cache, say, workers, _watch(progress))
    _print_figures(result)
    say(f"result: {out / session.RESULT}\nexamples: {write_examples(config, out, cache)}")


def ablate(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    preset: Annotated[str, typer.Option(help="smoke, quick, paper or long.")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each variant.")] = 5,
    variants: Annotated[
        str, typer.Option(help="Comma-separated; all of UC-GRPO if left out. Also sb3_ppo, and other papers' rewards.")
    ] = "",
    baseline_seeds: Annotated[
        int, typer.Option(min=1, help="Seeds of sb3_ppo, at most --seeds; each takes about as long as ten others.")
    ] = 1,
    out: OutOption = Path("actfer-ablation"),
    cache: CacheOption = Path("actfer-cache"),
    zoom_cost: ZoomCostOption = None,
    max_zooms: LookOption = 4,
    fields: FieldsOption = [],  # noqa: B006
    dataset: NameOption = None,
    root: RootOption = None,
    split: SplittingOption = "auto",
    data_preset: DataPresetOption = None,
    detector: DetectorOption = "auto",
    split_seed: SplitSeedOption = 0,
    balance: BalanceOption = "auto",
    rl_share: RLShareOption = None,
    sizes: SizesOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Train variants x seeds in parallel and write tables and learning curves; finished runs are not made again."""
    from actfer_env.rewards import VARIANTS

    light_session()
    from actfer_env.agents.light.ablate import ablate as run_all
    from actfer_env.agents.light.claims import WARM_START

    given = dict.fromkeys(part.strip() for part in variants.split(",") if part.strip())
    names = tuple(given) or (*VARIANTS, WARM_START)
    config = replace(
        data_of(light_preset(preset), dataset, root, split, data_preset, detector, split_seed, balance, rl_share,
                sizes),
        zoom_cost=zoom_cost or 0.0, max_zooms=max_zooms, reward=reward_fields(fields, zoom_cost=zoom_cost),
    )  # fmt: skip
    check_writable(out)
    say(_data_of(config))
    run_all(
        config,
        out,
        cache,
        variants=names,
        seeds=seeds,
        baseline_seeds=min(baseline_seeds, seeds),
        workers=workers,
        say=say,
    )
    say(f"tables: {out / 'ablation.md'}\ncurves: {out / 'curves.png'}")


def light_session() -> Any:
    """Return the module of training sessions, or say what is missing."""
    with needs("torch"):
        from actfer_env.agents.light import session
    return session


def light_preset(name: str) -> Any:
    """Return the settings of a preset's name."""
    presets = light_session().PRESETS
    if name not in presets:
        raise DataError(f"unknown preset {name!r}: use one of {', '.join(presets)}")
    return presets[name]


def data_of(  # noqa: PLR0913, PLR0917  (each argument is an option of the commands)
    config: Any, dataset: str | None, root: Path | None, split: str, data_preset: str | None, detector: str,
    split_seed: int, balance: str, rl_share: float | None, sizes: str | None,
) -> Any:  # fmt: skip
    """Return a preset on the data that the options name; without `sizes`, a prepared folder's pictures set theirs."""
    from actfer_env.data import load_dataset
    from actfer_env.data.registry import known_name
    from actfer_env.tools import make_detector

    make_detector(detector)  # a wrong one is refused before any work
    name, views = dataset or config.dataset, replace(config.views, detector=detector)
    kept = load_dataset(name, root).views if known_name(name.partition(":")[0]) == "prepared" else None
    try:
        if sizes is not None:
            sides = tuple(map(int, sizes.split(",")))
        else:
            sides = views.sides if kept is None else kept.config.sides
        raw, face, crop = sides
    except ValueError as error:
        raise DataError(f"--sizes {sizes!r} must be three whole numbers, such as 96,64,48") from error
    try:
        return replace(
            config, dataset=name, root=None if root is None else str(root.expanduser()), split=split,
            data_preset=data_preset, split_seed=split_seed, balance=balance, rl_share=rl_share,
            views=replace(views, image_size=raw, face_size=face, crop_size=crop),
        )  # fmt: skip
    except SettingsError as error:
        if kept is None or sizes is not None:
            raise
        raise DataError(f"{error}: prepare the pictures of {kept.folder} at other sizes, in another folder") from error


def _data_of(config: Any) -> str:
    """Return in one line how many samples of which split a session takes."""
    from actfer_env.agents.light.samples import is_sized

    if not is_sized(config.dataset):
        at = "" if config.root is None else f" in {config.root}"
        return f"{config.dataset}{at}: at most {config.train} samples of train, {config.val} of val"
    held = f", {config.test} of test" if config.test else ""
    return f"{config.dataset}: {config.train} samples of split train, {config.val} of val{held}"


def _watch(progress: Any) -> Any:
    """Return what says how the warm start learns, and moves a bar by one step of training, its figures beside it."""
    task = progress.add_task("training", total=None)

    def watch(phase: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        from actfer_env.agents.light.session import line_of

        line = line_of(phase, done, total, figures)
        if phase == "training":
            progress.update(task, description=line, total=total, completed=done)
        else:
            say(line)

    return watch


def _print_figures(result: dict[str, Any]) -> None:
    from rich.table import Table

    found, told = result["figures"], result.get("data", {})
    half = told.get("good") == "focus"
    table = Table(show_header=False, title=f"held-out faces ({result['split']})")
    names = {"accuracy": "accuracy", "macro_f1": "macro-F1", "au_f1": "AU F1", "zoom": "zoomed, of faces found",
             "zoom_good": "zoomed, sharper half" if half else "zoomed, good pictures",
             "zoom_poor": "zoomed, other half" if half else "zoomed, poor pictures", "task": "task reward",
             "task_never": "  same weights, never zooming", "task_once": "  same weights, zooming once or more",
             "task_always": "  same weights, zooming while they can",
             "task_oracle": "  the better of the two for each sample"}  # fmt: skip
    for key, text in names.items():
        table.add_row(text, "-" if found[key] is None or found[key] != found[key] else f"{found[key]:.3f}")
    console().print(table)
