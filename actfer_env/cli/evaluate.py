"""The command that evaluates a vision-language model or another policy."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from actfer_env.cli.gate import MeasureOption, check_measure, estimate_gate, play_agents, play_conversations
from actfer_env.cli.options import (
    AUSetOption,
    ChatOption,
    DetectorOption,
    EmbedOption,
    EmptyAUsOption,
    FieldsOption,
    OutOption,
    RootOption,
    SeedOption,
    SkipBrokenOption,
    SplitOption,
    ToolsOption,
    TurnsOption,
    ZoomOption,
    ZoomsOption,
    au_set_of,
    chat_fields,
    open_dataset,
    reward_of,
    tools_of,
)
from actfer_env.cli.output import complain, first_of, follow, print_summary, progress_bar, say
from actfer_env.errors import AgentError, DataError
from actfer_env.files import check_writable, new_folder, write_text_atomic
from actfer_env.packages import needs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actfer_env.data import Dataset
    from actfer_env.episode import Zooming
    from actfer_env.evaluation import EvalConfig


def evaluate_(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: Annotated[
        str | None, typer.Argument(help="A folder, an image, a .jsonl file, or a registered data set.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model's folder or hub name; with --endpoint its name there.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="Instead of a model: light:FOLDER, sb3:FILE, module:Class; commas mix them.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server.")] = None,
    out: OutOption = Path("actfer-eval"),
    split: SplitOption = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Samples; all if left out.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Conversations of each sample.")] = 1,
    preset: Annotated[str, typer.Option(help="actfer, or a passive baseline: facial_r1, tag, ferbench.")] = "actfer",
    coordinates: Annotated[
        str | None, typer.Option(help="Boxes: relative_1000, pixels or unit; the local model's own if left out.")
    ] = None,
    parsing: Annotated[str, typer.Option(help="lenient or strict.")] = "lenient",
    chat: ChatOption = [],  # noqa: B006
    native_calls: Annotated[
        bool, typer.Option("--native-calls", help="Endpoint: pass tools beside the messages.")
    ] = False,
    images_in_tool: Annotated[
        bool, typer.Option("--images-in-tool", help="Endpoint: send pictures inside tool messages.")
    ] = False,
    detector: DetectorOption = "auto",
    max_turns: TurnsOption = None,
    max_zooms: ZoomsOption = None,
    tools: ToolsOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a turn.")] = 1024,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seed: SeedOption = 0,
    batch: Annotated[int, typer.Option(min=1, help="Conversations side by side.")] = 8,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; the GPU where there is one.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    max_pixels: Annotated[int | None, typer.Option(min=1024, help="Local model: bound on a picture's pixels.")] = None,
    token_budget: Annotated[int | None, typer.Option(min=1, help="Endpoint: tokens of this start.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Endpoint: folder of answers that are not asked for again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count calls, tokens and cost; call nothing.")] = False,
    price: Annotated[tuple[float, float], typer.Option(help="Of a million tokens read and written.")] = (0.0, 0.0),
    data_preset: Annotated[
        str | None, typer.Option(help="Of drawn faces: easy, standard, hard, mixed or subtle.")
    ] = None,
    empty_aus: EmptyAUsOption = None,
    au_set: AUSetOption = None,
    fields: FieldsOption = [],  # noqa: B006
    skip_broken: SkipBrokenOption = False,
    embed: EmbedOption = False,
    root: RootOption = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Instead of a data set, with --root: ferbench, disfa, tag or fea20k.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another --out folder of the benchmark: F1 gain of each emotion over it.")
    ] = None,
    zoom: ZoomOption = "free",
    gate: Annotated[
        bool, typer.Option("--gate", help="Play each sample with zooms forbidden, forced and free; write gate.json.")
    ] = False,
    swaps: Annotated[bool, typer.Option("--swaps/--no-swaps", help="Of --gate: play with swapped crops, too.")] = True,
    quality: MeasureOption = "accuracy",
) -> None:
    """Evaluate a vision-language model; what is finished is kept, and the same command goes on where it stopped.

    With --agent a policy plays instead; it goes on likewise, but with --gate. With --benchmark each of its test sets
    is played into a folder of its own below --out, and table.json, .md, .csv, .tex and .html stand beside them;
    --number is then that of each set, spread evenly over it. With --gate the report says whether a policy knows when,
    and where, to look closer; commas then part the seeds of one policy.

    Pictures leave this machine only with --endpoint, and go to that address alone. Its key is read from
    OPENAI_API_KEY.
    """
    from actfer_env.chat import ChatConfig
    from actfer_env.cli.benchmark import config_of, one_part, open_benchmark, play_benchmark
    from actfer_env.episode import EpisodeConfig
    from actfer_env.evaluation import EvalConfig

    played = agent is not None
    for wrong, message in (
        ((model is None) != played, "give one of --model and --agent"),
        (played and (endpoint is not None or dry_run), "--endpoint and --dry-run go with --model, not with --agent"),
        (played and tools is not None, "--tools goes with --model: the actions of --agent have ActFER's two tools"),
        (played and bool(chat), "--chat goes with --model, not with --agent"),
        ((target is None) == (benchmark is None), "give a data set, or --benchmark with --root"),
        (gate and zoom != "free", "--gate plays with zooms forbidden, forced and free: leave out --zoom"),
        (gate and benchmark is not None, "--gate goes with a data set, such as one of the benchmark's"),
    ):
        if wrong:
            raise DataError(message)
    check_measure(quality)
    _refuse_unused(
        (benchmark is None, "--benchmark", {"against": against}),
        (benchmark is not None, "a data set, not with --benchmark",
         {"split": split, "data_preset": data_preset, "empty_aus": empty_aus, "skip_broken": skip_broken}),
        (played, "--model, not with --agent",
         {"preset": preset != "actfer", "coordinates": coordinates, "parsing": parsing != "lenient",
          "native_calls": native_calls, "temperature": temperature, "device": device, "max_pixels": max_pixels,
          "price": any(price)}),
        (endpoint is not None, "a local model, not with --endpoint", {"device": device, "max_pixels": max_pixels}),
        (endpoint is None and not dry_run, "--endpoint",
         {"images_in_tool": images_in_tool, "token_budget": token_budget, "cache": cache}),
    )  # fmt: skip
    if benchmark is not None:
        opened = open_benchmark(benchmark, root, number, against)
    else:
        opened = one_part(open_dataset(str(target), split, skip_broken, "test", empty_aus=empty_aus,
                                       preset=data_preset, number=number, root=root))  # fmt: skip
    if agent is not None:
        given: dict[str, Any] = {
            "group_size": repeats, "detector": None if detector == "auto" else detector, "number": number,
            "seed": seed, "max_turns": max_turns, "max_zooms": max_zooms, "reward": reward_of(fields),
            "au_set": None if au_set is None else au_set_of(au_set), "zoom": zoom,
        }  # fmt: skip
        play_benchmark(
            opened, out,
            lambda part, place: _play_agent(
                agent, part.dataset, place, embed, (swaps, quality) if gate else None, **given
            ),
            against,
        )  # fmt: skip
        return
    assert model is not None
    chosen: dict[str, Any] = {"preset": preset, "parsing": parsing, "calls": "native" if native_calls else "text"}
    chosen |= {} if coordinates is None else {"coordinates": coordinates}
    chosen |= chat_fields(chat, ("preset", "parsing", "calls", "coordinates"))
    asking = ChatConfig(**{"schemas_in_prompt": endpoint is not None and not native_calls, **chosen})
    units = opened.asked if au_set is None else au_set_of(au_set)
    episode = EpisodeConfig(
        6 if max_turns is None else max_turns, 4 if max_zooms is None else max_zooms, units,
        tools=tools_of(tools), zoom=cast("Zooming", zoom),
    )  # fmt: skip
    config = EvalConfig(asking, episode, detector, number, repeats, reward_of(fields), price)
    if dry_run:
        if gate:
            estimate_gate(opened.parts[0].dataset, config, swaps, price)
        else:
            _estimate([(part.dataset, config_of(part, config)) for part in opened.parts], price)
        return
    check_writable(out)
    if endpoint is None:
        chatter: Any = _local_model(
            model, (max_new_tokens, temperature, seed), device=device, dtype=dtype, batch_size=batch,
            max_pixels=max_pixels,
        )  # fmt: skip
        config = replace(config, chat=replace(chatter.chat, **chosen))
    else:
        from actfer_env.agents.endpoint import EndpointConfig, OpenAIChatAgent

        chatter = OpenAIChatAgent(EndpointConfig(
            endpoint, model, concurrency=batch, max_tokens=max_new_tokens, temperature=temperature, seed=seed,
            images_in_tool=images_in_tool, token_budget=token_budget, cache=None if cache is None else str(cache),
        ))  # fmt: skip
    if gate:
        play_conversations(chatter, opened.parts[0].dataset, config, out, swaps, quality, embed)
        return
    play_benchmark(opened, out, lambda part, place: _evaluate(
        chatter, part.dataset, config_of(part, config), place, embed), against)  # fmt: skip


def _local_model(model: str, sampling: tuple[int, float, int], **settings: Any) -> Any:
    """Return the agent of a local model; `sampling` is its tokens a turn, temperature and seed."""
    with needs("vlm"):
        from actfer_env.agents.qwen.torchvision_guard import guard

        guard()  # before transformers looks for its models
        from actfer_env.agents.qwen.agent import QwenVLAgent, SamplingConfig
        from actfer_env.agents.qwen.fast_vision import use_fast_vision

        use_fast_vision()  # on a CPU, several times as fast
        tokens, temperature, seed = sampling
        return QwenVLAgent(model, sampling=SamplingConfig(tokens, temperature, seed=seed), **settings)


def _refuse_unused(*rules: tuple[bool, str, dict[str, Any]]) -> None:
    """Refuse options that would be passed over.

    Args:
        rules: Each says when it holds, what the options go with instead, and the options; those that were not given are
            None, False or zero.
    """
    for holds, where, options in rules:
        for name, value in options.items() if holds else ():
            if value:
                raise DataError(f"--{name.replace('_', '-')} goes with {where}")


def _play_agent(
    agent: str, dataset: Dataset, out: Path, embed: bool, gate: tuple[bool, str] | None = None, **given: Any
) -> None:
    """Play a data set with agents, and write figures and report; with `gate`, swaps and quality, the gate report."""
    from actfer_env.cli.play import play_and_report
    from actfer_env.evaluation.play import config_for

    config = config_for(tuple(part.strip() for part in agent.split(",")), **given)
    if gate is not None:
        play_agents(dataset, replace(config, group_size=1), out, config.group_size, *gate, embed)
        return
    play_and_report(dataset, config, out, embed, evaluation=True)


def _evaluate(agent: Any, dataset: Dataset, config: EvalConfig, out: Path, embed: bool) -> None:
    from actfer_env.evaluation import evaluate, summarize, write_report, write_run
    from actfer_env.evaluation.costs import cost_of
    from actfer_env.evaluation.pictures import embed_pictures
    from actfer_env.evaluation.run import carried_pictures

    total = min(config.number or len(dataset), len(dataset)) * config.repeats
    with new_folder(out), progress_bar() as progress:
        try:
            run = evaluate(agent, dataset, config, out, follow(progress))
        except AgentError as error:
            if error.run is None:
                raise
            run = error.run
    if not run.rollouts:
        raise DataError(f"no conversation was finished: {first_of(run.failures)}")
    for failure in run.failures:
        complain(failure["error"])
    if embed or carried_pictures(out):
        run = embed_pictures(out, run.replace(pictures=carried_pictures(out)), dataset)
    write_run(out, run)
    summary = summarize(run.rollouts, run.scores, run.au_set)
    cost = cost_of(run.rollouts, run.price)
    figures = summary.to_dict() | ({} if cost is None else {"cost": asdict(cost)})
    write_text_atomic(out / "summary.json", json.dumps(figures, indent=1) + "\n")
    print_summary(run)
    if cost is not None:
        say(f"used:     {cost}")
    say(f"rollouts: {out / 'rollouts.jsonl'}")
    say(f"report:   {write_report(out, run)}")
    if run.failures or len(run.rollouts) < total:
        raise typer.Exit(1)


def _estimate(parts: Sequence[tuple[Dataset, EvalConfig]], price: tuple[float, float]) -> None:
    from actfer_env.agents.endpoint import estimate
    from actfer_env.evaluation.costs import Cost
    from actfer_env.evaluation.evaluate import fresh_episodes

    found = estimate((one for dataset, config in parts for one in fresh_episodes(dataset, config)), *price)
    cost = Cost(found.calls, found.prompt_tokens, found.completion_tokens, cost=found.cost)
    say(f"{found.episodes:,} conversations, about {cost}; nothing was sent")
