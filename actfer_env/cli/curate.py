"""Commands of the data stage: curate, and sft, which exports what was curated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actfer_env.cli.options import (
    AUSetOption,
    ChatOption,
    DetectorOption,
    EmptyAUsOption,
    OutOption,
    PresetOption,
    RootOption,
    SeedOption,
    SkipBrokenOption,
    SplitOption,
    TargetArgument,
    au_set_of,
    field_values,
    open_dataset,
)
from actfer_env.cli.output import complain, console, follow, progress_bar, say
from actfer_env.errors import DataError
from actfer_env.packages import needs

if TYPE_CHECKING:
    from actfer_env.curate.curate import Curation
    from actfer_env.curate.options import CurateOptions
    from actfer_env.data import Dataset


def data_curate(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: TargetArgument,
    out: OutOption = Path("actfer-curated"),
    root: RootOption = None,
    split: SplitOption = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Samples; all if left out.")] = None,
    writer: Annotated[str, typer.Option(help="template (no model) or endpoint.")] = "template",
    strategy: Annotated[
        str, typer.Option(help="Endpoint: given (labels are told) or eliminate (wrong emotions are struck off).")
    ] = "given",
    units: Annotated[str, typer.Option(help="Action Units: auto, labels, pseudo (a model's) or prototype.")] = "auto",
    length: Annotated[str, typer.Option(help="Template: full or short thoughts.")] = "full",
    zoom_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of faces that are zoomed into.")] = 0.5,
    sft_size: Annotated[int | None, typer.Option(min=0, help="Lines of the SFT set; all that are left.")] = None,
    rl_size: Annotated[int | None, typer.Option(min=0, help="Lines of the RL set; the paper's share.")] = None,
    rl_histogram: Annotated[
        str | None, typer.Option(metavar="LIST", help="Lines of the RL set by emotion: fear=300,contempt=200.")
    ] = None,
    pilot: Annotated[
        list[Path] | None, typer.Option(help="A finished run that tells what is hard; may be given again.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server.")] = None,
    model: Annotated[str | None, typer.Option(help="The model there that sees pictures.")] = None,
    text_endpoint: Annotated[str | None, typer.Option(help="Address of the model for texts; the same.")] = None,
    text_model: Annotated[str | None, typer.Option(help="The model for texts; the same.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Endpoint: samples at once.")] = 8,
    attempts: Annotated[int, typer.Option(min=1, max=20, help="Answers a stage until one passes its checks.")] = 4,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 1024,
    token_budget: Annotated[int | None, typer.Option(min=1, help="Tokens of this start and model.")] = None,
    check_pictures: Annotated[bool, typer.Option("--check-pictures", help="Ask first if a picture is fit.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count calls, tokens and cost; call nothing.")] = False,
    price: Annotated[tuple[float, float], typer.Option(help="Of a million tokens read and written.")] = (0.0, 0.0),
    text_price: Annotated[tuple[float, float] | None, typer.Option(help="Those of the model for texts.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Template: processes.")] = 1,
    views: Annotated[str, typer.Option(help="Tool outputs kept as png, jpeg or none.")] = "png",
    detector: DetectorOption = "auto",
    chat: ChatOption = [],  # noqa: B006
    episode: Annotated[
        list[str], typer.Option("--episode", metavar="FIELD=VALUE", help="A field of EpisodeConfig, likewise.")
    ] = [],  # noqa: B006
    fields: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A further field of CurateOptions, likewise.")
    ] = [],  # noqa: B006
    au_set: AUSetOption = None,
    seed: SeedOption = 0,
    preset: PresetOption = None,
    empty_aus: EmptyAUsOption = None,
    skip_broken: SkipBrokenOption = False,
) -> None:
    """Make training data with thoughts from labelled faces: trajectories, filtered, in disjoint SFT and RL sets.

    The same command goes on where an interrupted one stopped; answers that were paid for are not asked for again.
    Pictures leave this machine only with --endpoint. Its key is read from OPENAI_API_KEY.
    """
    with needs("data"):
        from actfer_env.curate.options import CurateOptions

    histogram = None if rl_histogram is None else field_values(rl_histogram.split(","), "--rl-histogram")
    episode_fields = field_values(episode, "--episode")
    if au_set is not None:
        episode_fields["au_set"] = list(au_set_of(au_set))
    options = CurateOptions.build(
        writer=writer, strategy=strategy, units=units, length=length, full_share=zoom_share, attempts=attempts,
        check_pictures=check_pictures, seed=seed, views=views, number=number, sft_size=sft_size, rl_size=rl_size,
        rl_histogram=histogram, detector=detector, chat=field_values(chat, "--chat"), episode=episode_fields,
        **field_values(fields, "--set"),
    )  # fmt: skip
    if writer == "endpoint" and not dry_run and (endpoint is None or model is None):
        raise DataError("--writer endpoint needs --endpoint and --model; --dry-run says what it would cost")
    if writer == "template" and endpoint is not None:
        raise DataError("--endpoint goes with --writer endpoint")
    dataset = open_dataset(target, split, skip_broken, empty_aus=empty_aus, preset=preset, number=number, root=root)
    if dry_run:
        _say_cost(dataset, options, price, text_price)
        return
    common: dict[str, Any] = {"concurrency": concurrency, "max_tokens": max_tokens, "temperature": temperature,
                              "seed": seed, "token_budget": token_budget}  # fmt: skip
    asked, text = None, None
    if endpoint is not None and model is not None:
        from actfer_env.agents.endpoint import EndpointConfig

        asked = EndpointConfig(endpoint, model, **common)
        if text_endpoint is not None or text_model is not None:
            text = EndpointConfig(text_endpoint or endpoint, text_model or model, **common)
    from actfer_env.curate.curate import curate

    with progress_bar() as progress:
        found = curate(dataset, out, options, endpoint=asked, text_endpoint=text, pilot=pilot or (), workers=workers,
                       watch=follow(progress))  # fmt: skip
    _print_curation(found)


def data_sft(
    curated: Annotated[Path, typer.Argument(help="A folder of `actfer data curate`, or a file of lines in it.")],
    to: Annotated[str, typer.Option(help="trl, verl, llamafactory, huggingface or facial_r1.")] = "trl",
    out: OutOption = Path("actfer-sft"),
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model that will be trained: its chat template is written out.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="Another spec of the same detector, such as cached:FOLDER.")
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Lines of a file.")] = 1000,
) -> None:
    """Export curated lines as multi-turn training data, and read back what was written.

    The conversations are played again by the package's own episode, so that a model learns on the very prompts, tool
    results and pictures of evaluation.
    """
    with needs("data"):
        from actfer_env.curate.exports import export
        from actfer_env.curate.replay import Curated

    source = Curated.open(curated, detector)
    with progress_bar() as progress:
        made = export(source, to, out, model=model, shard_size=shard_size, watch=follow(progress))
    say(f"{made} lines written and read back: {out}")


def _say_cost(
    dataset: Dataset, options: CurateOptions, price: tuple[float, float], text_price: tuple[float, float] | None
) -> None:
    from actfer_env.curate.estimate import estimate

    cost = estimate(dataset, options, price, text_price)
    if not sum(cost.calls):
        say(f"{cost.samples} samples, no calls: the template writer asks no model")
        return
    say(
        f"{cost.samples} samples, about {sum(cost.calls):,} calls ({cost.calls[1]:,} of them about texts alone), "
        f"{sum(cost.read):,} tokens read, {sum(cost.written):,} written, cost {cost.cost:.2f} with one answer a stage; "
        f"at most {cost.attempts} times as much; nothing was sent"
    )


def _print_curation(found: Curation) -> None:
    from rich.markup import escape
    from rich.table import Table

    sets = {name: found.sets[name] for name in ("kept", "sft", "rl")}
    table = Table("", *sets, title=f"{found.kept} of {found.samples} samples kept", title_justify="left")
    for emotion in sets["kept"]["got"]:
        table.add_row(emotion, *(_cell(part, emotion) for part in sets.values()))
    table.add_row("all", *(f"{part['lines']:,}" for part in sets.values()))
    out = console()
    out.print(table)
    for title, counts in (("dropped", found.reasons), ("in neither set", found.left_out), ("mode", found.modes)):
        if counts:
            out.print(f"{title}: " + escape(", ".join(f"{why} {count:,}" for why, count in sorted(counts.items()))))
    for name, calls in found.calls.items():
        read, written = found.tokens[name]
        out.print(f"{escape(name)}: {calls:,} calls, {read:,} tokens read, {written:,} written")
    for line in found.warnings:
        complain(line)
    say(f"lines:  {found.folder / 'sft.jsonl'}, {found.folder / 'rl.jsonl'}")
    say(f"report: {found.folder / 'report.json'}")


def _cell(part: dict[str, Any], emotion: str) -> str:
    got, asked = part["got"].get(emotion, 0), part.get("asked", {}).get(emotion)
    return f"{got:,}" if asked in (None, got) else f"{got:,} of {asked:,}"
