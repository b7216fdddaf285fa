"""`ChatEpisode`: an inspection episode as a conversation. Tools are not re-implemented here; `Episode` plays them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from actfer_env import facs
from actfer_env.boxes import Box
from actfer_env.chat.config import ChatConfig
from actfer_env.chat.messages import Message, assistant_message, image_part, native_calls, text_part
from actfer_env.chat.parsing import ParsedAnswer, ParsedCall, ParsedTurn, parse_turn
from actfer_env.chat.prompts import answers, own_question, system_prompt, user_prompt
from actfer_env.chat.turns import calls_text, with_reasoning
from actfer_env.episode import Episode, EpisodeConfig, StepResult
from actfer_env.errors import LabelError
from actfer_env.images import LIMITS, RGB
from actfer_env.rollout import Rollout
from actfer_env.sample import Sample
from actfer_env.tools.au_areas import au_boxes
from actfer_env.tools.face_tools import FaceTools
from actfer_env.tools.sampling import fit
from actfer_env.tools.wire import Wire
from actfer_env.tools.zoom import ZoomConfig


@dataclass(frozen=True)
class ChatStep:
    """Result of one assistant turn.

    Attributes:
        messages: The new tool or user messages, to be shown to the policy; empty at the end.
        images: Their pictures, in order, uint8 (H, W, 3) RGB.
        done: Whether the episode is over.
        violations: Names of the turn's violations.
        parsed: Calls and answer that were read in the turn.
    """

    messages: tuple[Message, ...]
    images: tuple[RGB, ...]
    done: bool
    violations: tuple[str, ...]
    parsed: ParsedTurn


class ChatEpisode:
    """One inspection episode as a conversation in OpenAI's chat format.

    Each tool call costs one of the episode's turns, and so does a turn that cannot be read. Pictures are placeholders
    in `messages` and lie in `images`; `to_openai` and `to_transformers` join them.

    Args:
        sample: The picture and its labels.
        tools: Shared detection and decoding; see `chat_tools` for crops of the chat's size.
        chat: Formats and picture sizes.
        config: Budgets; presets without tools play one turn.
        group_id: The query group; default is the sample's id.
        member: Index within the group.
        seed: Seed for the record.
        step: The policy update, for the record.

    Raises:
        ImageError: the sample's picture cannot be read.
    """

    def __init__(
        self,
        sample: Sample,
        tools: FaceTools,
        chat: ChatConfig | None = None,
        config: EpisodeConfig | None = None,
        *,
        group_id: str | None = None,
        member: int = 0,
        seed: int | None = None,
        step: int | None = None,
    ) -> None:
        self.chat, config = chat or ChatConfig(), config or EpisodeConfig()
        if not self.chat.preset_spec.tools:
            config = replace(config, max_turns=1)
        config = replace(config, emotions=answers(self.chat, config.emotions))
        self.episode = Episode(sample, tools, config, group_id=group_id, member=member, seed=seed, step=step)
        self.messages: list[Message] = []
        self.images: list[RGB] = []
        self.texts: list[str] = []
        self.outcome, self.why = "answered", ""
        self._log: list[dict[str, Any]] = []
        self._stop: dict[str, Any] = {}
        self._evidence: list[list[float]] = []
        self._au_boxes: dict[str, list[float]] = {}
        self._reasoning_aus: list[str] | None = None
        self.episode.wire = self._wire()
        self._begin()

    @property
    def sample(self) -> Sample:
        """The picture and its labels."""
        return self.episode.sample

    @property
    def done(self) -> bool:
        """True once the episode is over."""
        return self.episode.done

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools' schemas in OpenAI's format; empty for presets without tools."""
        if not self.chat.preset_spec.tools:
            return []
        return self.episode.toolkit.schemas(self.episode.wire)

    def step(
        self,
        text: str | None,
        tool_calls: Sequence[Mapping[str, Any]] | None = None,
        *,
        prefix: str = "",
        reasoning: str | None = None,
    ) -> ChatStep:
        """Play one assistant turn.

        Args:
            text: Text that the policy wrote; None, as servers send beside native calls, is an empty text.
            tool_calls: Native calls in OpenAI's format. Each that has an id is answered by a tool message, also
                where the turn as a whole is refused: endpoints reject a history in which one is missing.
            prefix: Text that the chat template had written at the turn's head, such as an opening ``<think>``; it
                belongs to the turn.
            reasoning: Text that a server has cut out of the turn and sent beside it. It belongs to the turn, as its
                ``<think>`` block, when the turn is read and recorded; in `messages` it stands beside the text, as
                ``reasoning_content``.

        Raises:
            RuntimeError: the episode is over.
            ImageError: the picture cannot be read.
            DetectorError: the detector lacks its extra or weights.
        """
        if self.done:
            raise RuntimeError("the episode is over: start a new one")
        # What the policy wrote goes into the record whole, and into the history as its server takes it back.
        text, calls = prefix + (text or ""), native_calls(tool_calls)
        whole = with_reasoning(text, reasoning)
        self.texts.append(whole + calls_text(calls))
        self.messages.append(assistant_message(text, calls, reasoning))
        first_message, first_image, first_call = len(self.messages), len(self.images), len(self.episode.calls)

        parsed = parse_turn(whole, self.chat, calls, self.episode.toolkit)
        if parsed.problem is not None:  # told to each native call, or else to the policy at large
            result = self.episode.violate("parse_error", parsed.problem.message, "", {"problem": parsed.problem.kind})
            ids = [call["id"] for call in calls if "id" in call]
            for identity in ids:
                self._reply(ParsedCall("", id=identity), result)
            if not ids:
                self._say(result.message)
        for call in parsed.calls:
            if self.done:
                break
            if call.problem is None:
                result = self.episode.call(call.name, call.arguments)
            else:
                details = {"problem": call.problem.kind, "text": call.arguments}
                result = self.episode.violate("parse_error", call.problem.message, call.name, details)
            self._reply(call, result)
        if parsed.answer is not None and not self.done:
            self._answer(parsed.answer, parsed.boxes)

        # The record keeps what could not be read, and what was mended.
        problems = [one.kind for one in (parsed.problem, *(call.problem for call in parsed.calls)) if one is not None]
        if problems or parsed.notes:
            entry = {"turn": len(self.texts) - 1} | ({"problem": problems[0]} if problems else {})
            self._log.append(entry | ({"mended": list(parsed.notes)} if parsed.notes else {}))
        violations = tuple(call.violation for call in self.episode.calls[first_call:] if call.violation)
        if self.done and self.episode.truncated:
            self.outcome = "truncated"
        messages, images = tuple(self.messages[first_message:]), tuple(self.images[first_image:])
        return ChatStep(messages, images, self.done, violations, parsed)

    def note_cut(self) -> None:
        """Note that the last turn ended at the bound on its tokens, not where the policy would have ended it."""
        turn = len(self.texts) - 1
        if not self._log or self._log[-1]["turn"] != turn:
            self._log.append({"turn": turn})
        self._log[-1]["cut"] = True

    def stop(self, outcome: str, why: str = "", status: int | None = None) -> None:
        """End the episode without an answer.

        Args:
            outcome: Manner of the end, such as "refused", "failed", "too_long" or "out_of_budget"; kept in the rollout.
            why: Words of the policy or of its server, for the record.
            status: HTTP status, where a server ended the conversation and not the policy, for the record.

        Raises:
            RuntimeError: the episode is over.
        """
        self.episode.stop()
        self.outcome, self.why = outcome, why
        if why or status is not None:
            self._stop = {"stop": {"why": why, "status": status}}

    def rollout(self, meta: Mapping[str, Any] | None = None) -> Rollout:
        """Return the record of the finished episode.

        Its texts are whole assistant turns. Its meta adds `outcome`, `parse_failures`, `cut_turns` (at the bound on a
        turn's tokens), `chat` (one entry for each turn that had a problem, was mended or cut), and `stop` (what `stop`
        was told). Presets with a canvas add `evidence_boxes` and `au_boxes`, both as shares of the picture: the boxes
        of the reasoning, and those of the target's Action Units (see `tools.au_boxes`). Presets that name units in the
        reasoning add `reasoning_aus` where a label was written, known or not.

        Raises:
            RuntimeError: the episode is not over.
        """
        kept: dict[str, Any] = {"outcome": self.outcome, "preset": self.chat.preset, "chat": self._log}
        kept["parse_failures"] = sum("problem" in entry for entry in self._log)
        kept["cut_turns"] = sum("cut" in entry for entry in self._log)
        kept |= self._stop
        if self.chat.preset_spec.canvas:
            kept |= {"evidence_boxes": self._evidence, "au_boxes": self._au_boxes}
        if self._reasoning_aus is not None:
            kept["reasoning_aus"] = self._reasoning_aus
        return self.episode.rollout(self.texts, {**kept, **(meta or {})})

    def _begin(self) -> None:
        """Write the system prompt and the first question with its picture."""
        episode, spec, regions = self.episode, self.chat.preset_spec, None
        if spec.canvas:  # now, so that a detector that cannot be built says so before the policy is asked
            aus = None if self.sample.aus is None else self.sample.aus & episode.config.known_aus
            self._au_boxes = au_boxes(self.sample, episode.tools, aus)
        if episode.alignment is not None and not spec.canvas:  # a canvas spans the picture, not the face
            picture = episode.tools.face(self.sample, episode.alignment, self.chat.face_side)
            regions = {name: episode.wire.write(box) for name, box in episode.alignment.regions.items()}
        else:
            image = episode.tools.image(self.sample)
            picture = fit(image, spec.side, bars=spec.bars) if spec.side else _bounded(image, self.chat.image_side)
            episode.wire = self._wire((picture.shape[1], picture.shape[0]))
        own = self.sample.meta if spec.own_prompt else {}
        labels = own.get("candidate_labels") or episode.config.emotions
        question = str(own.get("prompt") or user_prompt(self.chat, regions, labels, own_question(self.sample)))
        self.messages += [
            {"role": "system", "content": [text_part(system_prompt(self.chat, episode.config))]},
            {"role": "user", "content": [image_part(), text_part(question)]},
        ]
        self.images.append(picture)

    def _wire(self, image: tuple[int, int] | None = None) -> Wire:
        """Return how the policy writes boxes, and how large it sees pictures; before the raw one, all as the face."""
        side = self.chat.face_side
        return Wire(self.chat.coordinates, side, image or (side, side), max(self.episode.config.max_zooms, 1))

    def _reply(self, call: ParsedCall, result: StepResult) -> None:
        """Write the tool's message and keep its pictures."""
        tool, output, wire = self.episode.toolkit.get(call.name), result.output, self.episode.wire
        if tool is None or output is None:
            hint = "" if tool is None or result.violation != "bad_arguments" else tool.hint(call.arguments, wire)
            told = {"error": result.violation, "message": result.message + hint}
        else:
            told = {"message": result.message} | ({} if self.chat.brief else tool.tell(output, wire))
        pictures = () if output is None else output.pictures
        message: Message = {
            "role": "tool",
            "name": "unknown" if tool is None else call.name,
            "content": [*(image_part() for _ in pictures), text_part(json.dumps(told))],
        }
        if call.id is not None:
            message["tool_call_id"] = call.id
        self.messages.append(message)
        self.images += pictures

    def _answer(self, answer: ParsedAnswer, evidence: Sequence[Box]) -> None:
        """Answer with what a turn says, and keep what its reasoning names."""
        self._evidence = [list(box) for box in evidence]
        if self.chat.preset_spec.aus == "reasoning":
            units: set[int] = set()
            for label in answer.aus or ():
                with suppress(LabelError):  # a number that FACS does not know spoils no other
                    units |= facs.parse_aus(label)
            self._reasoning_aus = [facs.format_au(au) for au in sorted(units & self.episode.config.known_aus)]
            answer = replace(answer, aus=sorted(units))
        result = self.episode.answer(answer.emotion, answer.aus)
        if result.violation:
            self._say(result.message)

    def _say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": [text_part(text)]})


def chat_tools(detector: Any = "auto", chat: ChatConfig | None = None, **kwargs: Any) -> FaceTools:
    """Return tools whose crops have the chat's size; arguments as `FaceTools`."""
    return FaceTools(detector, zoom=ZoomConfig(size=(chat or ChatConfig()).crop_side), **kwargs)


@lru_cache(maxsize=4)
def shared_tools(detector: str = "auto", chat: ChatConfig | None = None) -> FaceTools:
    """Return this process's tools of a detector and a chat: the members of a group share one detection."""
    return chat_tools(detector, chat)


def _bounded(image: RGB, side: int) -> RGB:
    """Shrink a picture whose long side is beyond a bound.

    Its shape is kept, unless the short side would fall below what `load_image` takes: no model reads a line of pixels.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(round(width * scale), LIMITS.min_side), max(round(height * scale), LIMITS.min_side)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
