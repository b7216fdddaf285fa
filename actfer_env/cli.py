"""The command line `actfer`. Heavy modules are imported inside the commands, so that --help answers at once."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actfer_env.errors import ActFERError, AgentError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actfer_env.data import Dataset
    from actfer_env.evaluation import EvalConfig, Run
    from actfer_env.runner import RolloutConfig

app = typer.Typer(
    name="actfer",
    help="Agentic facial expression recognition: detect, align, zoom in, answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

data_app = typer.Typer(help="Data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

DEMO_AGENTS = ("full:truth", "simplified:happiness", "degraded:neutral", "random:unmasked")
DEMO_SAMPLES = 12

DetectorOption = Annotated[
    str, typer.Option(help="mtcnn, insightface:PACK_OR_FOLDER, yunet:FILE, or one that you registered.")
]
FieldsOption = Annotated[
    list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A constant of the reward; may be given again.")
]
LookOption = Annotated[
    int, typer.Option(min=0, max=4, help="Regions that an episode may magnify; fewer than 4 make the policy choose.")
]
OutOption = Annotated[Path, typer.Option(help="Folder for the results; made if it is not there.")]
SplitOption = Annotated[
    str | None,
    typer.Option(help="train, val or test; all if left out (of drawn faces: train, and test for eval)."),
]
DRAWN = ("synthetic", "synthetic-mixed")
"""Data sets that are drawn on demand."""
SeedOption = Annotated[int, typer.Option(help="Fixes every random draw.")]


@app.command()
def demo(
    out: OutOption = Path("actfer-demo"),
    detector: DetectorOption = "auto",
    seed: SeedOption = 0,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Pictures.")] = DEMO_SAMPLES,
) -> None:
    """Play scripted and random episodes on drawn faces and the astronaut portrait, and write a report.

    Each picture is played four times, as a query group: with zooming, without, without looking at all, and at
    random. No agent here looks at pictures; the demo shows the tools and the rewards.
    """
    from actfer_env.data import load_dataset
    from actfer_env.runner import RolloutConfig

    config = RolloutConfig(agents=DEMO_AGENTS, group_size=len(DEMO_AGENTS), detector=detector, seed=seed, number=number)
    _play(load_dataset("demo"), config, out)


@app.command()
def rollout(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: Annotated[str, typer.Argument(help="A folder, an image, a .jsonl file, or a registered data set.")],
    out: OutOption = Path("actfer-out"),
    agent: Annotated[
        str, typer.Option(help="full, simplified, degraded (each with :truth or :EMOTION), random; commas mix them.")
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
    skip_broken: Annotated[bool, typer.Option(help="Leave out broken lines of a .jsonl file.")] = False,
) -> None:
    """Play episodes over photos or a data set; write rollouts.jsonl, run.json and report.html."""
    from actfer_env.rewards import UCGRPOConfig
    from actfer_env.runner import RolloutConfig

    agents = tuple(part.strip() for part in agent.split(","))
    config = RolloutConfig(
        agents=agents, detector=detector, group_size=group_size, number=number, seed=seed,
        max_turns=max_turns, max_zooms=max_zooms, reward=UCGRPOConfig.variant(variant),
    )  # fmt: skip
    _play(_open(target, split, skip_broken), config, out)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="The --out folder of a run.")]) -> None:
    """Rebuild a run's report from its stored rollouts; recompute every reward and compare it with the stored one."""
    from actfer_env.evaluation import read_run, write_report

    run = read_run(folder)
    path = write_report(folder, run)
    differences = run.mismatches()
    for line in differences:
        _complain(line)
    _say(
        f"{len(run.rollouts)} rollouts, rewards recomputed: {len(differences) or 'no'} differences from the stored ones"
    )
    _say(f"report: {path}")
    if differences:
        raise typer.Exit(1)


@app.command(name="eval")
def evaluate_(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: Annotated[str, typer.Argument(help="A folder, an image, a .jsonl file, or a registered data set.")],
    model: Annotated[str, typer.Option(help="A model's folder or hub name; with --endpoint its name there.")],
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
    native_calls: Annotated[bool, typer.Option(help="Endpoint: pass tools beside the messages.")] = False,
    images_in_tool: Annotated[bool, typer.Option(help="Endpoint: send pictures inside tool messages.")] = False,
    detector: DetectorOption = "auto",
    max_turns: Annotated[int, typer.Option(min=1, help="Calls and answer together.")] = 6,
    max_zooms: Annotated[int, typer.Option(min=0, help="Crops of an episode.")] = 4,
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
    dry_run: Annotated[bool, typer.Option(help="Count calls, tokens and cost; call nothing.")] = False,
    price: Annotated[tuple[float, float], typer.Option(help="Of a million tokens read and written.")] = (0.0, 0.0),
    skip_broken: Annotated[bool, typer.Option(help="Leave out broken lines of a .jsonl file.")] = False,
) -> None:
    """Evaluate a vision-language model; what is finished is kept, and the same command goes on where it stopped.

    Pictures leave this machine only with --endpoint, and go to that address alone. Its key is read from
    OPENAI_API_KEY.
    """
    from actfer_env.chat import ChatConfig
    from actfer_env.episode import EpisodeConfig
    from actfer_env.evaluation import EvalConfig

    chosen: dict[str, Any] = {"preset": preset, "parsing": parsing, "calls": "native" if native_calls else "text"}
    chosen |= {} if coordinates is None else {"coordinates": coordinates}
    chat = ChatConfig(**chosen, schemas_in_prompt=endpoint is not None and not native_calls)
    config = EvalConfig(chat, EpisodeConfig(max_turns, max_zooms), detector, number, repeats)
    dataset = _open(target, split, skip_broken, drawn="test")
    if dry_run:
        _estimate(dataset, config, price)
        return
    _check_writable(out)
    if endpoint is None:
        from actfer_env.agents.qwen_vl import QwenVLAgent, SamplingConfig

        sampling = SamplingConfig(max_new_tokens, temperature, seed=seed)
        agent: Any = QwenVLAgent(
            model, device=device, dtype=dtype, sampling=sampling, batch_size=batch, max_pixels=max_pixels
        )
        config = replace(config, chat=replace(agent.chat, **chosen))
    else:
        from actfer_env.agents.openai_chat import EndpointConfig, OpenAIChatAgent

        agent = OpenAIChatAgent(EndpointConfig(
            endpoint, model, concurrency=batch, max_tokens=max_new_tokens, temperature=temperature, seed=seed,
            images_in_tool=images_in_tool, token_budget=token_budget, cache=None if cache is None else str(cache),
        ))  # fmt: skip
    _evaluate(agent, dataset, config, out)


@app.command()
def train(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    preset: Annotated[str, typer.Option(help="smoke, quick (three minutes), paper or long.")] = "quick",
    variant: Annotated[
        str,
        typer.Option(help="Reward: full, no_ema, zoom_biased, au_grounded, emotion_only, task_only, facial_r1, tag."),
    ] = "full",
    seed: SeedOption = 0,
    out: OutOption = Path("actfer-train"),
    cache: Annotated[Path, typer.Option(help="Folder of drawn pictures and warm starts, for all runs.")] = Path(
        "actfer-cache"
    ),
    zoom_cost: Annotated[
        float, typer.Option(min=0.0, help="Taken from a rollout that zooms; ours, not the paper's.")
    ] = 0.0,
    outcome_gate: Annotated[bool, typer.Option(help="Task reward alone in groups without a right answer.")] = False,
    no_std: Annotated[bool, typer.Option(help="Do not divide advantages by the group's std.")] = False,
    max_zooms: LookOption = 4,
    fields: FieldsOption = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that draw; all cores if left out.")] = None,
) -> None:
    """Train a light inspection policy with UC-GRPO on drawn faces, and measure it on held-out people.

    The same command goes on where an interrupted one stopped.
    """
    from dataclasses import replace

    session = _session()
    from actfer_env.agents.light.examples import write_examples

    session.check_variant(variant)
    config = replace(_preset(preset), variant=variant, seed=seed, zoom_cost=zoom_cost, outcome_gate=outcome_gate,
                     normalize_std=not no_std, max_zooms=max_zooms, reward=_fields(fields))  # fmt: skip
    _check_writable(out)
    with _progress() as progress:
        result = session.run(config, out, cache, _say, workers, _watch(progress))
    _print_figures(result)
    _say(f"result: {out / session.RESULT}\nexamples: {write_examples(config, out, cache)}")


@app.command()
def ablate(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    preset: Annotated[str, typer.Option(help="smoke, quick, paper or long.")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each variant.")] = 5,
    variants: Annotated[
        str, typer.Option(help="Comma-separated; all of UC-GRPO if left out. Also facial_r1, tag, sb3_ppo.")
    ] = "",
    baseline_seeds: Annotated[
        int, typer.Option(min=1, help="Seeds of sb3_ppo, at most --seeds; each takes about as long as ten others.")
    ] = 1,
    out: OutOption = Path("actfer-ablation"),
    cache: Annotated[Path, typer.Option(help="Folder of drawn pictures and warm starts, for all runs.")] = Path(
        "actfer-cache"
    ),
    zoom_cost: Annotated[float, typer.Option(min=0.0, help="Taken from a rollout that zooms; ours.")] = 0.0,
    max_zooms: LookOption = 4,
    fields: FieldsOption = [],  # noqa: B006
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Train variants x seeds in parallel and write tables and learning curves; finished runs are not made again."""
    from dataclasses import replace

    from actfer_env.rewards import VARIANTS

    _session()
    from actfer_env.agents.light.ablate import ablate as run_all
    from actfer_env.agents.light.claims import WARM_START

    names = tuple(part.strip() for part in variants.split(",") if part.strip()) or (*VARIANTS, WARM_START)
    _check_writable(out)
    run_all(
        replace(_preset(preset), zoom_cost=zoom_cost, max_zooms=max_zooms, reward=_fields(fields)),
        out,
        cache,
        variants=names,
        seeds=seeds,
        baseline_seeds=min(baseline_seeds, seeds),
        workers=workers,
        say=_say,
    )
    _say(f"tables: {out / 'ablation.md'}\ncurves: {out / 'curves.png'}")


@app.command()
def inspect(
    images: Annotated[list[Path], typer.Argument(help="Images or folders.")],
    detector: DetectorOption = "auto",
    size: Annotated[
        int, typer.Option(min=16, max=4096, help="Side of the aligned face and of crops, in pixels.")
    ] = 224,
    face: Annotated[str, typer.Option(help="largest, an index by size from 0, or a point X,Y in pixels.")] = "largest",
    out: OutOption = Path("actfer-inspect"),
) -> None:
    """Run the tools alone: print what they find as JSON lines, and write a picture for each image."""
    from actfer_env.inspection import inspect_image, make_tools, parse_face, picture_names
    from actfer_env.tools import find_images

    tools = make_tools(detector, size, parse_face(face))
    done, paths = 0, [path for given in images for path in find_images(given)]
    for path, name in zip(paths, picture_names(paths), strict=True):
        try:
            sys.stdout.write(json.dumps(inspect_image(path, tools, out, name)) + "\n")
            done += 1
        except ActFERError as error:
            _complain(str(error))
    if not done:
        raise typer.Exit(1)


@app.command()
def envs() -> None:
    """List the registered environments with their action and observation spaces."""
    import gymnasium as gym
    from rich.table import Table

    from actfer_env.registration import CHAT_ID, IDS

    table = Table("id", "action space", title="Registered environments")
    for name in (*IDS, CHAT_ID):
        table.add_row(name, str(gym.make(name).action_space))
    _console().print(table)
    _say("Observations and arguments: python -c 'import actfer_env.env; help(actfer_env.env.ActFEREnv)'")


@app.command()
def doctor() -> None:
    """Show what is installed, which detectors are ready, and how to get what is missing."""
    from actfer_env.doctor import detector_table, package_table

    _console().print(package_table())
    _console().print(detector_table())


@data_app.command("list")
def data_list() -> None:
    """List the registered data sets."""
    from rich.table import Table

    from actfer_env.data import registered_datasets

    table = Table("name", "what", title="Data sets")
    for name, loader in registered_datasets().items():
        table.add_row(name, (loader.__doc__ or "").strip().splitlines()[0])
    _console().print(table)


@data_app.command()
def gallery(
    out: OutOption = Path("actfer-gallery"),
    size: Annotated[int, typer.Option(min=64, max=512, help="Side of a face in pixels.")] = 192,
    people: Annotated[int, typer.Option(min=1, max=40, help="People in each row of the sheet by emotion.")] = 6,
    seed: SeedOption = 0,
) -> None:
    """Draw contact sheets of the synthetic faces, by emotion and by Action Unit and intensity (PNG and HTML)."""
    from actfer_env.data.gallery import GalleryConfig, write_gallery

    for path in write_gallery(out, GalleryConfig(size, people, seed)):
        _say(str(path))


@data_app.command("verl")
def data_verl(
    target: Annotated[str, typer.Argument(help="A folder, an image, a .jsonl file, or a registered data set.")],
    out: OutOption = Path("actfer-verl"),
    split: SplitOption = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Rows; all if left out.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Rows of a file.")] = 10_000,
    images: Annotated[str, typer.Option(help="auto, path, bytes or none.")] = "auto",
    skip_broken: Annotated[bool, typer.Option(help="Leave out broken lines of a .jsonl file.")] = False,
) -> None:
    """Write a data set as parquet for verl, and check what was written."""
    from actfer_env.data.parquet import ParquetConfig, write_parquet

    config = ParquetConfig(shard_size=shard_size, images=images, number=number)  # type: ignore[arg-type]
    for path in write_parquet(_open(target, split, skip_broken), out, config):
        _say(str(path))


@data_app.command("precompute")
def data_precompute(  # noqa: PLR0913, PLR0917  (each argument is an option of the command)
    target: Annotated[str, typer.Argument(help="A folder, an image, a .jsonl file, or a registered data set.")],
    out: OutOption = Path("actfer-detections"),
    detector: DetectorOption = "auto",
    split: SplitOption = None,
    number: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Samples; all if left out.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    part: Annotated[tuple[int, int], typer.Option(help="I N: the I-th of N parts, from 0; one a machine.")] = (0, 1),
    shard_size: Annotated[int, typer.Option(min=1, help="Samples of a shard, about.")] = 512,
    skip_broken: Annotated[bool, typer.Option(help="Leave out broken lines of a .jsonl file.")] = False,
) -> None:
    """Detect every picture of a data set once; every command and worker then takes --detector cached:FOLDER.

    The same command goes on where an interrupted one stopped, and makes changed pictures again.
    """
    from actfer_env.data.precompute import PrecomputeConfig, precompute
    from actfer_env.tools import make_detector

    dataset = _open(target, split, skip_broken)
    config = PrecomputeConfig(detector, shard_size, number, workers, part)
    make_detector(detector)  # a wrong one is refused before the bar appears
    with _progress() as progress:
        task = progress.add_task("pictures", total=min(len(dataset), number or len(dataset)))
        done = precompute(dataset, out, config, lambda so_far: progress.update(task, completed=so_far.total))
    for line in done.failures:
        _complain(line)
    _say(f"{done.detected} detected ({done.faceless} without a face), {done.kept} known before, "
         f"{done.prealigned} aligned already")  # fmt: skip
    _say(f"use them: --detector cached:{out.resolve()}")
    if done.unread:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; every error that a user can cause ends as one line on stderr and a non-zero code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is finished is kept, as after Ctrl-C
    try:
        code = app(standalone_mode=False)
    except ActFERError as error:
        _complain(str(error))
        code = 1
    except KeyboardInterrupt:
        _complain("interrupted")
        code = 130
    except Exception as error:  # usage errors of typer's own click, whose class has no public name
        if not hasattr(error, "format_message"):
            raise
        if error.format_message():  # without a command, the help was printed already
            _complain(f"{error.format_message()} Try 'actfer --help'.")
        code = 2
    sys.exit(code or 0)


def _open(target: str, split: str | None, skip_broken: bool, drawn: str = "train") -> Dataset:
    """Return the data set that a path or name stands for; an existing path comes first.

    `drawn` is the split of drawn faces, which have no end that "all" could mean.
    """
    from actfer_env.data import load_dataset, registered_datasets

    options: dict[str, Any] = {"on_error": "skip"} if skip_broken else {}
    path = Path(target)
    if path.suffix == ".jsonl":
        return load_dataset("jsonl", path, split, **options)
    if path.exists():
        return load_dataset("photos", path, split, **options)
    if target in registered_datasets():
        return load_dataset(target, None, split or (drawn if target in DRAWN else None))
    known = ", ".join(registered_datasets())
    raise DataError(f"{target}: no such file or folder, and no data set of that name ({known})")


def _play(dataset: Dataset, config: RolloutConfig, out: Path) -> None:
    from actfer_env.evaluation import write_report, write_run
    from actfer_env.runner import play

    _check_writable(out)
    _check_kind(out)
    total = min(config.number or len(dataset), len(dataset)) * config.group_size
    with _progress() as progress:
        task = progress.add_task("episodes", total=total)
        run = play(dataset, config, lambda name: progress.advance(task))
    for failure in run.failures:
        _complain(failure["error"])
    if not run.rollouts:
        raise DataError("no episode could be played")
    write_run(out, run)
    path = write_report(out, run)
    _print_summary(run)
    _say(f"rollouts: {out / 'rollouts.jsonl'}\nreport:   {path}")
    if any(not failure["sample_id"] for failure in run.failures):  # it ended before the last sample
        raise typer.Exit(1)


def _check_kind(out: Path) -> None:
    """Keep rollouts out of the folder of an evaluation, and say so when an earlier run is replaced."""
    from actfer_env.evaluation.evaluate import SETTINGS

    if (out / SETTINGS).exists():
        raise DataError(f"{out} holds an evaluation: choose another folder with --out")
    if (out / "run.json").exists():
        _say(f"the earlier run in {out} will be replaced")


def _evaluate(agent: Any, dataset: Dataset, config: EvalConfig, out: Path) -> None:
    from actfer_env.evaluation import evaluate, summarize, write_report, write_run
    from actfer_env.rollout import write_text_atomic

    total = min(config.number or len(dataset), len(dataset)) * config.repeats
    with _progress() as progress:
        task = progress.add_task("conversations", total=total)
        try:
            run = evaluate(agent, dataset, config, out, lambda done: progress.update(task, completed=done))
        except AgentError as error:
            if error.run is None:
                raise
            run = error.run
    for failure in run.failures:
        _complain(failure["error"])
    if not run.rollouts:
        raise DataError("no conversation was finished")
    write_run(out, run)
    write_text_atomic(out / "summary.json", json.dumps(summarize(run.rollouts, run.score()).to_dict(), indent=1) + "\n")
    path = write_report(out, run)
    _print_summary(run)
    _say(f"rollouts: {out / 'rollouts.jsonl'}\nreport:   {path}")
    if len(run.rollouts) < total:
        raise typer.Exit(1)


def _estimate(dataset: Dataset, config: EvalConfig, price: tuple[float, float]) -> None:
    from actfer_env.agents.openai_chat import estimate
    from actfer_env.evaluation.evaluate import fresh_episodes

    found = estimate(fresh_episodes(dataset, config), *price)
    _say(
        f"{found.episodes} conversations, about {found.calls} calls, {found.prompt_tokens} tokens read, "
        f"{found.completion_tokens} written, cost {found.cost:.2f}; nothing was sent"
    )


def _session() -> Any:
    """Return the module of training sessions, or say what is missing."""
    try:
        from actfer_env.agents.light import session
    except ImportError as error:
        raise DataError(f"{error.name} is missing: pip install 'actfer-env[torch]'") from error
    return session


def _fields(given: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Read NAME=VALUE of the reward's constants, and check them before any work."""
    from actfer_env.rewards import UCGRPOConfig

    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise DataError(f"--set {text!r} must be FIELD=VALUE, such as ema_gain=16")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    UCGRPOConfig.from_dict(found)
    return tuple(found.items())


def _watch(progress: Any) -> Any:
    """Return what moves a bar by one step of training, its figures beside it."""
    task = progress.add_task("training", total=None)

    def watch(row: dict[str, float], steps: int) -> None:
        from actfer_env.agents.light.session import line_of

        progress.update(task, description=line_of(row, steps), total=steps, completed=row["step"] + 1)

    return watch


def _preset(name: str) -> Any:
    presets = _session().PRESETS
    if name not in presets:
        raise DataError(f"unknown preset {name!r}: use one of {', '.join(presets)}")
    return presets[name]


def _print_figures(result: dict[str, Any]) -> None:
    from rich.table import Table

    found = result["figures"]
    table = Table(show_header=False, title=f"held-out faces ({result['split']})")
    names = {"accuracy": "accuracy", "macro_f1": "macro-F1", "au_f1": "AU F1", "zoom": "zoomed, of faces found",
             "zoom_good": "zoomed, good pictures", "zoom_poor": "zoomed, poor pictures", "task": "task reward",
             "task_never": "  same weights, never zooming", "task_once": "  same weights, zooming once or more",
             "task_always": "  same weights, zooming while they can",
             "task_oracle": "  the better of the two for each sample"}  # fmt: skip
    for key, text in names.items():
        table.add_row(text, f"{found[key]:.3f}")
    _console().print(table)


def _check_writable(out: Path) -> None:
    """Fail before the work rather than after it."""
    from actfer_env.rollout import write_text_atomic

    probe = out / ".writable"
    write_text_atomic(probe, "")
    probe.unlink()


def _print_summary(run: Run) -> None:
    from rich.table import Table

    from actfer_env.evaluation import summarize, summary_rows

    table = Table(show_header=False, title=f"{len(run.rollouts)} episodes")
    for row in summary_rows(summarize(run.rollouts, run.score())):
        table.add_row(*row)
    _console().print(table)


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def _console() -> Any:
    from rich.console import Console

    return Console()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"actfer: {text}\n")


if __name__ == "__main__":
    main()
