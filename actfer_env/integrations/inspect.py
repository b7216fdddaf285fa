"""inspect-ai: the episode as a task with image tools, its scorer, and its logs as rollouts. Needs `[inspect]`.

``inspect eval actfer_env/actfer --model ...`` runs it; ``inspect view`` shows what was looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from actfer_env.chat import ChatConfig, ChatEpisode, ChatStep, shared_tools
from actfer_env.chat.messages import Message, data_url, said_by_user
from actfer_env.data import load_dataset
from actfer_env.data.references import reference, sample_of
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.packages import needs
from actfer_env.rewards import UCGRPO, au_f1
from actfer_env.rewards.config import UCGRPOConfig
from actfer_env.rollout import Rollout
from actfer_env.tools import FaceTools

with needs("inspect"):
    import anyio.to_thread
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.log import EvalLog, read_eval_log
    from inspect_ai.model import (
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
        ContentImage,
        ContentReasoning,
        ContentText,
        execute_tools,
    )
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
    from inspect_ai.solver import Generate, Solver, TaskState, solver
    from inspect_ai.tool import Tool, tool

ROLLOUT = "actfer_rollout"
"""Key of a sample's store that holds the record of its episode."""


class _Turns:
    """An episode whose whole turns are played once, and whose replies the tools hand over one by one."""

    def __init__(self, episode: ChatEpisode) -> None:
        self.episode = episode
        self.told: dict[str, list[Any]] = {}
        self.waiting: list[list[Any]] = []

    def play(self, message: ChatMessageAssistant) -> ChatStep:
        """Play an assistant's turn; each native call is answered under its id."""
        calls = [
            {"id": call.id, "function": {"name": call.function, "arguments": _arguments(call)}}
            for call in message.tool_calls or ()
        ]
        parts = message.content if isinstance(message.content, list) else []
        thought = "\n".join(part.reasoning for part in parts if isinstance(part, ContentReasoning))
        step = self.episode.step(message.text, calls, reasoning=thought or None)
        pictures = iter(step.images)
        contents = [(one.get("tool_call_id"), _content(one, pictures)) for one in step.messages]
        self.told = {str(identity): content for identity, content in contents if identity is not None}
        self.waiting = list(self.told.values())
        return step

    def reply(self) -> list[Any]:
        """Return the reply to the next call that inspect hands to a tool."""
        return self.waiting.pop(0) if self.waiting else [ContentText(text="the episode is over")]


@tool(max_output=0)
def detect_align(turns: _Turns) -> Tool:
    """Find the face of a picture and bring it upright, as a tool whose result is a picture.

    Args:
        turns: The episode that it plays in.
    """

    async def execute() -> list[Any]:
        """Find the face, bring it upright and to size, and get its four facial regions."""
        return turns.reply()

    return execute


@tool(max_output=0)
def zoom_in(turns: _Turns) -> Tool:
    """Magnify parts of the aligned face, as a tool whose results are pictures.

    Args:
        turns: The episode that it plays in.
    """

    async def execute(regions: list[str] | None = None, boxes: list[list[float]] | None = None) -> list[Any]:
        """Magnify parts of the aligned face in their native detail.

        Args:
            regions: Names of regions: forehead-eyebrow, eye-periorbital, nose, mouth-chin.
            boxes: Boxes [x1, y1, x2, y2] on the aligned face, in the coordinates that the instructions name.
        """
        return turns.reply()

    return execute


@solver
def face_episode(detector: str = "auto", chat: str = "actfer", max_turns: int = 6) -> Solver:
    """Play a sample's episode: the prompts and the picture, then turn after turn until it is over.

    A turn that cannot be read, an unknown tool or unreadable arguments cost a turn and are answered, as in every other
    door.

    Args:
        detector: A detector's spec.
        chat: Preset of prompts and formats, one of `CHAT_PRESETS`.
        max_turns: Turns of an episode.
    """
    settings = ChatConfig(preset=chat)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        begin = _begin(state, shared_tools(detector, settings), settings, EpisodeConfig(max_turns=max_turns))
        turns = await anyio.to_thread.run_sync(lambda: _Turns(begin()))
        episode = turns.episode
        pictures = iter(list(episode.images))
        state.messages = [_message(one, pictures) for one in episode.messages]
        state.tools = [detect_align(turns), zoom_in(turns)] if episode.tools else []
        try:
            while not (episode.done or state.completed):
                state = await generate(state, tool_calls="none")
                said = state.output.message
                step = await anyio.to_thread.run_sync(turns.play, said)  # waits for the turn where inspect cancels
                if said.tool_calls:
                    done = await execute_tools([said], state.tools)  # inspect's own record of the calls
                    for answer in done.messages:
                        content = turns.told.get(str(getattr(answer, "tool_call_id", None)))
                        if isinstance(answer, ChatMessageTool) and content is not None:
                            answer.content, answer.error = content, None
                        state.messages.append(answer)
                new = iter(step.images)
                for one in step.messages:
                    message = _message(one, new)
                    if "tool_call_id" not in one:
                        state.messages.append(message)
        finally:  # one of inspect's limits leaves by an exception, and is scored all the same
            if not episode.done:
                episode.stop("out_of_budget", "inspect ended the sample")
            state.store.set(ROLLOUT, episode.rollout().to_dict())
        return state

    return solve


@scorer(metrics={name: [mean(), stderr()] for name in ("accuracy", "au_f1", "reward", "zoomed", "violations")})
def actfer_scorer(variant: str = "full") -> Scorer:
    """Score an episode: accuracy of the emotion, F1 of the Action Units, the reward as a group of one, zooming.

    A sample without a label, or without an answer, counts 0. The reward's terms and their reasons are in the score's
    metadata and explanation; rewards over groups of epochs are computed from `rollouts_of`.

    Args:
        variant: Variant of UC-GRPO.
    """
    rewards = UCGRPO(UCGRPOConfig.variant(variant))

    async def score(state: TaskState, target: Target) -> Score:
        kept = state.store.get(ROLLOUT)
        if kept is None:
            raise DataError("the sample has no episode: run it with face_episode as the solver")
        rollout = Rollout.from_dict(kept)
        scores = rewards.score([rollout])
        terms = scores.terms(0)
        f1 = 0.0 if rollout.aus is None else au_f1(rollout.predicted_aus or frozenset(), rollout.aus)
        value = {
            "accuracy": float(rollout.correct is True), "au_f1": float(f1), "reward": terms["total"],
            "zoomed": float(rollout.zoomed), "violations": float(len(rollout.violations)),
        }  # fmt: skip
        return Score(value=value, answer=rollout.predicted_emotion, metadata={"terms": terms},
                     explanation="\n".join(rewards.explain([rollout], scores, 0)))  # fmt: skip

    return score


@task
def actfer(
    dataset: str = "synthetic",
    root: str | None = None,
    split: str | None = "test",
    n: int | None = 100,
    detector: str = "auto",
    chat: str = "actfer",
    max_turns: int = 6,
    variant: str = "full",
) -> Task:
    """Agentic facial expression recognition: look at a face with tools, answer with an emotion and Action Units.

    Args:
        dataset: A registered name.
        root: Folder or file of the data set, for those that need one.
        split: "train", "val" or "test"; None for all, and for data sets that have none.
        n: Number of samples, from the first on; None is all.
        detector: A detector's spec.
        chat: Preset of prompts and formats.
        max_turns: Turns of an episode.
        variant: Variant of UC-GRPO.
    """
    samples = load_dataset(dataset, root, split)
    count = len(samples) if n is None else min(n, len(samples))
    chosen = [samples[place] for place in range(count)]
    return Task(
        dataset=MemoryDataset(
            [Sample(input="Which facial expression does this picture show?", target=one.emotion or "", id=one.id,
                    metadata={"sample": json.dumps(reference(one, samples))}) for one in chosen],
            name=samples.name,
        ),
        solver=face_episode(detector, chat, max_turns),
        scorer=actfer_scorer(variant),
    )  # fmt: skip


def rollouts_of(log: EvalLog | str | Path) -> list[Rollout]:
    """Return the episodes of a log as rollouts; the epochs of a sample are the members of its group.

    Args:
        log: A log, or its file.

    Returns:
        One rollout for each sample and epoch that was finished, in the log's order; `write_rollouts` keeps them for
        ``actfer report``, and any reward of this package scores them.

    Raises:
        DataError: the log holds no episodes.
    """
    whole = log if isinstance(log, EvalLog) else read_eval_log(str(log))
    found = [Rollout.from_dict(one.store[ROLLOUT]) for one in whole.samples or () if ROLLOUT in one.store]
    if not found:
        raise DataError("the log holds no finished episode of face_episode")
    return found


def _begin(state: TaskState, tools: FaceTools, chat: ChatConfig, config: EpisodeConfig) -> Any:
    """Return a function that makes the episode of a sample and epoch."""
    given = (state.metadata or {}).get("sample")
    if given is None:
        raise DataError("the sample names no picture: make the data with actfer_env.integrations.inspect.actfer")

    def begin() -> ChatEpisode:
        sample = sample_of(given)
        return ChatEpisode(sample, tools, chat, config, group_id=sample.id, member=state.epoch - 1)

    return begin


def _arguments(call: Any) -> str:
    """Return a call's arguments as JSON text; what inspect could not read, it keeps nowhere."""
    return json.dumps(call.arguments) if call.parse_error is None else "unreadable"


def _content(message: Message, pictures: Iterator[Any]) -> list[Any]:
    return [
        ContentImage(image=data_url(next(pictures))) if part["type"] == "image" else ContentText(text=part["text"])
        for part in message["content"]
    ]


def _message(message: Message, pictures: Iterator[Any]) -> ChatMessage:
    """Return a message of an episode as inspect's; a reply to a call in the text is the user's."""
    content: Sequence[Any] = _content(said_by_user(message), pictures)
    if message["role"] == "system":
        return ChatMessageSystem(content=list(content))
    if "tool_call_id" in message:
        return ChatMessageTool(content=list(content), tool_call_id=message["tool_call_id"], function=message["name"])
    return ChatMessageUser(content=list(content))
