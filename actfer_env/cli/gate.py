"""The gate report on the command line: `actfer eval --gate` plays for it, `actfer gate` makes it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actfer_env.cli.output import complain, console, follow, progress_bar, say
from actfer_env.errors import AgentError, DataError
from actfer_env.files import check_writable, new_folder
from actfer_env.identity import refuse_other

if TYPE_CHECKING:
    from actfer_env.data import Dataset
    from actfer_env.evaluation import EvalConfig, Run
    from actfer_env.evaluation.gate.outcomes import Plays
    from actfer_env.evaluation.play import RolloutConfig

MEASURES = ("accuracy", "task")
MeasureOption = Annotated[
    str, typer.Option("--quality", help="What an episode is worth: accuracy, or task (the task reward, with AUs).")
]


def gate(
    runs: Annotated[
        list[Path], typer.Argument(help="The --out folder of 'actfer eval --gate'; several are seeds of one policy.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; the run's own, which several need.")] = None,
    quality: MeasureOption = "accuracy",
) -> None:
    """Make the gate report of a finished run again, or one of several seeds: gate.json, gate.md, plots, gate.html."""
    from actfer_env.evaluation.gate.outcomes import joined, read_plays, write_plays

    check_measure(quality)
    if len(runs) > 1 and out is None:
        raise DataError("several runs need a folder for their report: --out FOLDER")
    if len({run.resolve() for run in runs}) < len(runs):
        raise DataError("a run is named twice: give each seed once")
    plays = joined([read_plays(run) for run in runs])
    place = out or runs[0]
    if out is not None and [out.resolve()] != [run.resolve() for run in runs]:
        check_writable(out)
        _refuse_other_report(out, plays)
        write_plays(out, plays)
    report_gate(place, plays, quality)


def _refuse_other_report(out: Path, plays: Plays) -> None:
    """Refuse a folder that holds a run, or the gate report of other ones."""
    from actfer_env.evaluation.gate.outcomes import holds_plays, read_plays
    from actfer_env.evaluation.journal import SETTINGS
    from actfer_env.evaluation.run import RUN_FILE

    if (out / RUN_FILE).exists() or (out / SETTINGS).exists():
        raise DataError(f"{out} holds a run of its own: choose another folder with --out")
    if holds_plays(out):
        kept = read_plays(out)
        names = ("agents", "dataset", "settings")
        refuse_other(out, "report", *({name: getattr(one, name) for name in names} for one in (kept, plays)))


def play_agents(
    dataset: Dataset, config: RolloutConfig, out: Path, repeats: int, swaps: bool, quality: str, embed: bool
) -> None:
    """Play agents in every pass, and write the run of the first one's pass "free" and the gate report."""
    from actfer_env.cli.play import check_kept
    from actfer_env.evaluation.gate.play import play_gate
    from actfer_env.evaluation.run import finished_run

    check_measure(quality)
    check_writable(out)
    check_kept(out, dataset, config)
    with progress_bar() as progress:
        plays, free = play_gate(dataset, config, repeats=repeats, swaps=swaps, watch=follow(progress))
    run = finished_run(free, dataset.arguments, config.settings(), config.reward, plays.failures)
    _write(run, plays, dataset, out, quality, embed)


def play_conversations(
    agent: Any, dataset: Dataset, config: EvalConfig, out: Path, swaps: bool, quality: str, embed: bool
) -> None:
    """Evaluate a language policy in every pass, and write the run of the pass "free" and the gate report."""
    from actfer_env.evaluation.gate.conversations import evaluate_gate, gate_configs

    check_measure(quality)
    count = min(config.number or len(dataset), len(dataset)) * config.repeats
    total = count * len(gate_configs(config, swaps))
    with new_folder(out), progress_bar() as progress:
        try:
            plays, run = evaluate_gate(agent, dataset, config, out, swaps=swaps, watch=follow(progress))
        except AgentError as error:
            raise AgentError(f"{error}; what is finished is kept: run the same command again") from error
    _write(run, plays, dataset, out, quality, embed)
    if plays.failures or len(plays.outcomes) < total:
        raise typer.Exit(1)


def estimate_gate(dataset: Dataset, config: EvalConfig, swaps: bool, price: tuple[float, float]) -> None:
    """Say what every pass would cost; nothing is sent."""
    from actfer_env.agents.endpoint import estimate
    from actfer_env.evaluation.evaluate import fresh_episodes
    from actfer_env.evaluation.gate.conversations import gate_configs

    sums = [0.0] * 5
    for way, settings in gate_configs(config, swaps).items():
        found = estimate(fresh_episodes(dataset, settings), *price)
        numbers = (found.episodes, found.calls, found.prompt_tokens, found.completion_tokens, found.cost)
        sums = [a + b for a, b in zip(sums, numbers, strict=True)]
        say(f"pass {way}: " + _cost(numbers))
    say("all passes: " + _cost(sums) + "; nothing was sent")


def _cost(numbers: Any) -> str:
    return (f"{numbers[0]:.0f} conversations, about {numbers[1]:.0f} calls, {numbers[2]:.0f} tokens read, "
            f"{numbers[3]:.0f} written, cost {numbers[4]:.2f}")  # fmt: skip


def check_measure(quality: str) -> None:
    """Refuse an unknown measure with a `DataError`."""
    if quality not in MEASURES:
        raise DataError(f"unknown quality {quality!r}: use one of {', '.join(MEASURES)}")


def report_gate(place: Path, plays: Plays, quality: str) -> None:
    """Write the gate report, and print its findings."""
    from rich.table import Table

    from actfer_env.evaluation.gate.page import GATE_FILE, TABLE_FILE, overview, sentence, title_of, write_gate

    figures, page = write_gate(place, plays, quality)
    table = Table(title=title_of(figures))
    for name in ("gate", quality, "regret"):
        table.add_column(name)
    for row in overview(figures):
        table.add_row(*row)
    console().print(table)
    for line in sentence(figures):
        say(line)
    say(f"figures: {place / GATE_FILE}\ntables:  {place / TABLE_FILE}")
    if page is None:
        complain("no plots and no page: matplotlib is missing; pip install 'actfer-env[torch]'")
    else:
        say(f"page:    {page}")


def _write(run: Run, plays: Plays, dataset: Dataset, out: Path, quality: str, embed: bool) -> None:
    from actfer_env.evaluation import write_report, write_run
    from actfer_env.evaluation.gate.outcomes import write_plays
    from actfer_env.evaluation.pictures import embed_pictures

    for failure in plays.failures:
        complain(failure["error"])
    if embed:
        run = embed_pictures(out, run, dataset)
    write_run(out, run)
    write_plays(out, plays)
    report_gate(out, plays, quality)
    say(f"report:  {write_report(out, run, keep=False)}")
