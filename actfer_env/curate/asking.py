"""Questions to models: every answer is kept as soon as it is there, and an answer that fails its checks is asked anew.

A killed curation loses no answer that was paid for: what lies in a journal is not asked for again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from actfer_env.agents.endpoint import EndpointConfig, EndpointError, OddReplyError, OpenAIChatAgent, RefusedError
from actfer_env.chat.messages import Message, image_part, text_part
from actfer_env.files import Journal
from actfer_env.images import RGB

T = TypeVar("T")
HOPELESS = 10
"""Samples that end without any answer in a row, after which the fault is taken to be every request's (chosen here)."""
_OPEN = 4
"""Journals whose answers are held in memory at once: that of the shard in work, and its neighbours."""


class Fault(Exception):
    """An answer that fails its checks.

    Args:
        issues: What is wrong with it, in words for the model; each is a whole sentence.
        kind: Kind of the fault, by which it is counted.
    """

    def __init__(self, issues: Sequence[str], kind: str = "format") -> None:
        super().__init__("; ".join(issues))
        self.issues, self.kind = list(issues), kind


class StageError(Exception):
    """A sample that is given up: its last answer failed, or it was refused.

    Args:
        reason: Stage and kind of the fault, by which it is counted.
        detail: The fault in words.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = PackageLoader("actfer_env.curate", "prompts")
    return Environment(loader=loader, undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)


def prompt(name: str, **values: Any) -> str:
    """Return a prompt of ``prompts/``, filled in."""
    return _environment().get_template(f"{name}.j2").render(**values).strip()


def question(text: str, pictures: int = 0) -> list[Message]:
    """Return a user's message of some pictures and a text."""
    return [{"role": "user", "content": [*(image_part() for _ in range(pictures)), text_part(text)]}]


class Responses:
    """Answers in journals, one for each shard of samples.

    Args:
        folder: Folder of the journals.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._lock = folder, threading.Lock()
        self._found: OrderedDict[int, tuple[Journal[dict[str, Any]], dict[str, dict[str, Any]]]] = OrderedDict()

    def _shard(self, shard: int) -> tuple[Journal[dict[str, Any]], dict[str, dict[str, Any]]]:
        if shard not in self._found:
            journal = Journal(self.folder / f"{shard:05d}.jsonl", _parse_response, key=lambda record: record["key"])
            self._found[shard] = journal, {record["key"]: record for record in journal.read()}
            while len(self._found) > _OPEN:
                self._found.popitem(last=False)
        return self._found[shard]

    def find(self, shard: int, key: str) -> dict[str, Any] | None:
        """Return a kept answer, or None."""
        with self._lock:
            return self._shard(shard)[1].get(key)

    def keep(self, shard: int, record: dict[str, Any]) -> None:
        """Keep an answer; it is on the disk when this returns.

        Raises:
            DataError: the journal cannot be written.
        """
        with self._lock:
            journal, _ = self._shard(shard)
            journal.append(record)


def _parse_response(record: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(record.get("key"), str) or not isinstance(record.get("text"), str):
        raise ValueError("not an answer: it must have a key and a text")
    return record


class Models:
    """The models that are asked: one that sees pictures, and one for texts, which may be the same.

    Args:
        vision: Endpoint of the model that sees pictures.
        text: Endpoint of the model for texts; None is the same.
        responses: Journals of the answers.

    Raises:
        EndpointError: the client is not installed, or a key cannot be one.
    """

    def __init__(self, vision: EndpointConfig, text: EndpointConfig | None, responses: Responses) -> None:
        self.vision = OpenAIChatAgent(vision)
        self.text = self.vision if text is None else OpenAIChatAgent(text)
        self.responses = responses
        self._lock, self._silent, self._spoken = threading.Lock(), 0, False

    def note(self, answered: bool) -> None:
        """Note whether a sample got any answer at all.

        Raises:
            EndpointError: none of the last samples did; the fault is every request's.
        """
        with self._lock:
            self._spoken = self._spoken or answered
            self._silent = 0 if answered else self._silent + 1
            if self._silent >= HOPELESS and not self._spoken:
                raise EndpointError(f"{HOPELESS} samples got no usable answer from {self.vision.config.address}: is it a "
                                    "chat endpoint, and does the model take pictures?")  # fmt: skip


@dataclass
class Inquiry:
    """The questions about one sample.

    Attributes:
        models: The models.
        sample: The sample's id.
        shard: Number of the sample's journal.
        attempts: Answers asked for at most in a stage.
        keys: Keys of the answers that were got, in order.
        used: Keys of those that passed their checks.
    """

    models: Models
    sample: str
    shard: int
    attempts: int
    keys: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    def ask(
        self, stage: str, messages: list[Message], images: Sequence[RGB], check: Callable[[str], T], *,
        sees: bool = True, first: int = 0,
    ) -> tuple[T, int]:  # fmt: skip
        """Ask until an answer passes its checks; each that fails is shown to the model with what is wrong with it.

        Args:
            stage: Name of the stage.
            messages: The question.
            images: Its pictures.
            check: Returns what an answer's text says.
            sees: Whether the model must see pictures.
            first: Number of the first attempt; those before had another question.

        Returns:
            What the answer says, and the number of attempts so far.

        Raises:
            StageError: the answers are used up, or the model refuses.
            EndpointError: the endpoint cannot be used, or the token budget is used up.
        """
        asked, fault = messages, Fault(["there is no answer."], "silence")
        for attempt in range(first, first + self.attempts):
            try:
                key, text = self._answer(stage, attempt, asked, images, sees)
                self.keys.append(key)
                found = check(_spoken(text))
            except OddReplyError as error:
                fault = Fault([str(error)], "silence")
                continue
            except Fault as error:
                fault = error
                again = prompt("issues", issues=error.issues)
                said: Message = {"role": "assistant", "content": [text_part(text or "(nothing)")]}
                asked = [*messages, said, *question(again)]
                continue
            self.used.append(key)
            return found, attempt + 1
        raise StageError(f"{stage}: {fault.kind}", str(fault))

    def _answer(
        self, stage: str, attempt: int, messages: list[Message], images: Sequence[RGB], sees: bool
    ) -> tuple[str, str]:
        """Return an answer's key and text: a kept one, or one that is asked for and kept."""
        agent = self.models.vision if sees else self.models.text
        seen = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images]
        place = [agent.config.address, agent.config.model, agent.settings, self.sample, stage, attempt, messages, seen]
        key = hashlib.sha256(json.dumps(place, sort_keys=True, default=str).encode()).hexdigest()[:32]
        kept = self.models.responses.find(self.shard, key)
        if kept is None:
            try:
                answer, usage = agent.ask(messages, images, member=attempt)
            except RefusedError as error:
                raise StageError(f"{stage}: refused", str(error)) from error
            kept = {
                "schema": 1, "key": key, "sample": self.sample, "stage": stage, "attempt": attempt,
                "model": agent.config.model, "text": answer.get("content") or "", "stop": answer.get("stop"),
                "why": answer.get("why") or "", "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            }  # fmt: skip
            self.models.responses.keep(self.shard, kept)
        if kept.get("stop"):
            raise StageError(f"{stage}: refused", str(kept.get("why") or kept["stop"]))
        return key, str(kept["text"])


def _spoken(text: str) -> str:
    """Return an answer without the reasoning that some models write before it; trajectories have their own."""
    thought, closed, rest = text.partition("</think>")
    own = "<answer>" in rest  # a trajectory of a preset without tools, which begins with its thought
    return rest.strip() if closed and thought.lstrip().startswith("<think>") and not own else text.strip()
