"""`curate`: the whole data stage, resumable, in parallel, and with memory that does not grow with the data set."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env.agents.endpoint import EndpointConfig
from actfer_env.curate.asking import Models, Responses
from actfer_env.curate.journals import Outcomes
from actfer_env.curate.lines import Line, Outcome
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.pipeline import Worker
from actfer_env.curate.record import begin_record
from actfer_env.curate.sampling import Choice, Pilot, Pool, draw, histogram, pool_of, shortfalls
from actfer_env.errors import DataError
from actfer_env.files import check_writable, draft_file, sweep, write_text_atomic
from actfer_env.identity import as_json, dataset_facts, detector_facts
from actfer_env.packages import needs
from actfer_env.plugins import parallel
from actfer_env.progress import Watch
from actfer_env.sample import Dataset

REPORT = "report.json"
_AHEAD = 4
"""Samples, or chunks of them, in work for each worker: what is finished out of turn waits in memory (chosen here)."""
_CHUNK = 16
"""Samples that a process makes at once."""
Made = tuple[Outcome, NDArray[np.int8] | None]


@dataclass
class Curation:
    """Figures of a curation.

    Attributes:
        folder: The folder.
        samples: Samples in all.
        kept: Lines that were kept.
        reasons: Reason -> samples that were dropped for it.
        modes: Mode of trajectory -> lines.
        units_from: Origin of the units -> lines.
        calls: Model -> calls of this start.
        tokens: Model -> (read, written) of this start.
        sets: "sft" and "rl" -> lines asked for and got, of each emotion.
        left_out: Reason -> kept lines that are in neither set.
        warnings: Lines for the user.
    """

    folder: Path
    samples: int
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    units_from: Counter[str] = field(default_factory=Counter)
    calls: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for ``report.json``: what depends on data and answers alone.

        Resuming gives the same report as never stopping.
        """
        shown = {name: dict(getattr(self, name)) for name in ("reasons", "modes", "units_from", "sets", "left_out")}
        return {"schema": 1, "samples": self.samples, "kept": self.kept, **shown, "warnings": self.warnings}


def curate(
    dataset: Dataset, folder: Path, options: CurateOptions, *, endpoint: EndpointConfig | None = None,
    text_endpoint: EndpointConfig | None = None, pilot: Sequence[Path] = (), workers: int = 1,
    watch: Watch | None = None,
) -> Curation:  # fmt: skip
    """Make trajectories of a data set, filter them, and draw the SFT and RL sets.

    What is finished is kept, and the same call goes on where a killed one stopped: no answer is asked for twice, and no
    sample comes twice. The folder then holds ``sft.jsonl``, ``rl.jsonl``, ``report.json``, ``curate.json``, the outcome
    of every sample (``lines/``), all answers (``responses/``) and the tools' outputs (``views/``).

    Args:
        dataset: The samples.
        folder: Folder to write; empty, or begun by the same curation.
        options: Settings.
        endpoint: Endpoint of the writer "endpoint": a model that sees pictures.
        text_endpoint: Endpoint of a model for texts; None is the same.
        pilot: Finished runs, whose accuracy tells how hard samples and emotions are.
        workers: Processes of the template writer; an endpoint has its own number of threads.
        watch: Called after each sample with "samples", how many are done, and how many there are.

    Returns:
        The figures.

    Raises:
        DataError: the folder holds something else or cannot be written, no line was kept, or an extra is missing.
        EndpointError: the endpoint cannot be used, or the token budget is used up; what is finished is kept.
    """
    with needs("data"):
        import imagehash  # noqa: F401  # before the work rather than after the first picture
    if (options.writer == "endpoint") != (endpoint is not None):
        raise DataError("the writer 'endpoint' needs an endpoint, and the template writer takes none")
    count = min(len(dataset), options.number or len(dataset))
    check_writable(folder)
    begin_record(folder, options, curation_facts(dataset, options, endpoint, text_endpoint))
    rest = Pilot.read(pilot)
    outcomes = Outcomes(folder, count, options.shard_size, sync=endpoint is not None)
    models = None if endpoint is None else Models(endpoint, text_endpoint, Responses(folder / "responses"))
    worker = Worker(dataset, folder, options, models)
    todo = list_missing(outcomes)
    done = count - len(todo)
    with ExitStack() as stack:
        made = _threads(stack, worker, todo, endpoint.concurrency) if endpoint else _processes(worker, todo, workers)
        for outcome, thumbnail in made:
            outcomes.keep(outcome, thumbnail)
            done += 1
            if watch is not None:
                watch("samples", done, count, {})
    sweep(folder)
    return _draw_sets(outcomes, options, rest, models)


def list_missing(outcomes: Outcomes) -> NDArray[np.int32]:
    """Return the indices of samples without an outcome, int32 (n,), in order."""
    return np.fromiter(outcomes.missing(), np.int32)


def curation_facts(
    dataset: Dataset, options: CurateOptions, endpoint: EndpointConfig | None, text: EndpointConfig | None
) -> dict[str, Any]:
    """Return what decides a curation's lines besides its options."""

    def model(config: EndpointConfig | None) -> dict[str, Any] | None:
        if config is None:
            return None
        return {"endpoint": config.address, "model": config.model, "temperature": config.temperature,
                "seed": config.seed, "max_tokens": config.max_tokens}  # fmt: skip

    facts = {"data": dataset_facts(dataset), "detector": detector_facts(options.detector),
             "vision": model(endpoint), "text": model(text)}  # fmt: skip
    found: dict[str, Any] = as_json(facts)
    return found


def _threads(stack: ExitStack, worker: Worker, todo: NDArray[np.int32], count: int) -> Iterator[Made]:
    """Yield outcomes in order, made by threads that wait for answers; an interrupt does not wait for these."""
    pool = stack.enter_context(ThreadPool(count))
    waiting: deque[Any] = deque()
    for index in todo.tolist():
        waiting.append(pool.apply_async(worker.outcome, (index,)))
        if len(waiting) >= _AHEAD * count:
            yield waiting.popleft().get()
    while waiting:
        yield waiting.popleft().get()


def _processes(worker: Worker, todo: NDArray[np.int32], count: int) -> Iterator[Made]:
    """Yield outcomes in order, made here or by processes."""
    if count == 1:
        yield from map(worker.outcome, todo.tolist())
        return
    chunks = ((todo[start : start + _CHUNK].tolist(),) for start in range(0, len(todo), _CHUNK))
    for part in parallel(partial(_outcomes, worker.dataset, worker.folder, worker.options), chunks, count):
        yield from part


_workers: dict[str, Worker] = {}
"""The worker of this process, by what it works on."""


def _outcomes(dataset: Dataset, folder: Path, options: CurateOptions, indices: list[int]) -> list[Made]:
    key = f"{folder} {options.model_dump_json()}"
    if key not in _workers:
        import cv2

        cv2.setNumThreads(1)
        _workers.clear()
        _workers[key] = Worker(dataset, folder, options)
    return [_workers[key].outcome(index) for index in indices]


def _draw_sets(outcomes: Outcomes, options: CurateOptions, pilot: Pilot, models: Models | None) -> Curation:
    """Draw both sets, write them, and report."""
    found = Curation(outcomes.folder.parent, outcomes.count)

    def kept() -> Iterator[Line]:
        for outcome in outcomes.read():
            if outcome.line is None:
                found.reasons[outcome.reason or "unknown"] += 1
            else:
                found.kept += 1
                found.modes[outcome.line.mode] += 1
                found.units_from[outcome.line.units_from] += 1
                yield outcome.line

    try:
        pool = pool_of(kept(), pilot)
        choice = draw(pool, options, outcomes.thumbnails)
        _write_sets(outcomes, pool, choice)
        for name, rows, asked in (("sft", choice.sft, choice.asked_sft), ("rl", choice.rl, choice.asked_rl)):
            found.sets[name] = {"lines": len(rows), "asked": histogram(asked), "got": histogram(pool.counts(rows))}
        found.sets["kept"] = {"lines": len(pool), "got": histogram(pool.counts())}
        found.left_out = choice.left_out
        found.warnings += shortfalls(choice, pool, options).values()
    finally:
        for agent in {id(one): one for one in (models.vision, models.text)}.values() if models else ():
            name = agent.config.model
            found.calls[name] = agent.total.calls
            found.tokens[name] = agent.total.prompt_tokens, agent.total.completion_tokens
        text = json.dumps(found.to_json(), indent=1, ensure_ascii=False)
        write_text_atomic(found.folder / REPORT, text + "\n")
    return found


def _write_sets(outcomes: Outcomes, pool: Pool, choice: Choice) -> None:
    """Write ``sft.jsonl`` and ``rl.jsonl`` in the order of the samples, both whole or not at all."""
    sft, rl = (set(pool.index[rows].tolist()) for rows in (choice.sft, choice.rl))
    folder = outcomes.folder.parent
    with draft_file(folder / "sft.jsonl") as first, draft_file(folder / "rl.jsonl") as second, \
            first.open("w", encoding="utf-8") as to_sft, second.open("w", encoding="utf-8") as to_rl:  # fmt: skip
        for outcome in outcomes.read():
            for file, members in ((to_sft, sft), (to_rl, rl)):
                if outcome.line is not None and outcome.index in members:
                    file.write(json.dumps(outcome.line.to_json(), ensure_ascii=False) + "\n")
