"""The agent loop of verl over `ChatEpisode`: tools are the project's own, at the picture's native resolution."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any
from uuid import uuid4

from PIL import Image
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, AgentLoopWorker, register
from verl.utils.tokenizer import get_processor_token_id

from actfer_env.agents.qwen.conversation import Conversation, TokenCodec
from actfer_env.chat import ChatConfig, ChatEpisode, shared_tools
from actfer_env.data.references import sample_of
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.rewards.guards import picture_mismatch
from actfer_env.tools.detectors.hardware import Hardware, use_hardware
from actfer_env.verl_plugin.rows import AGENT
from actfer_env.verl_plugin.scoring import compute_score


@lru_cache(maxsize=4)
def _codec(tokenizer: Any, image_processor: Any) -> TokenCodec:
    """Return the codec of this process: the sessions of a prompt see the same pictures."""
    return TokenCodec(tokenizer, image_processor)


@lru_cache(maxsize=4)
def _threads(count: int | None) -> ThreadPoolExecutor | None:
    """Return the threads of this process for tools; None stands for the event loop's own."""
    return None if count is None else ThreadPoolExecutor(count)


def guard_pictures() -> None:
    """Let verl's workers compare the features that they make for the trainer with the placeholders of our loop.

    verl processes the pictures once more. With another size than the loop's (``data.mm_processor_kwargs``), the forward
    pass would stop later, without the sample's name. Calling it again changes nothing.
    """
    make = AgentLoopWorker._compute_multi_modal_inputs
    if hasattr(make, "__wrapped__"):
        return

    @functools.wraps(make)
    def make_and_compare(self: Any, output: Any, input_ids: Any) -> Any:
        inputs = make(self, output, input_ids)
        grids, rollout = inputs.get("image_grid_thw"), output.extra_fields.get("rollout")
        if grids is not None and rollout is not None:
            placeholders = int((input_ids == get_processor_token_id(self.processor, "image")).sum())
            features = int(grids.prod(-1).sum()) // int(self.processor.image_processor.merge_size) ** 2
            sample = json.loads(rollout)["sample_id"]
            if problem := picture_mismatch(sample, placeholders, features, len(grids)):
                raise DataError(f"{problem}, as verl processes them: leave data.mm_processor_kwargs empty")
        return inputs

    AgentLoopWorker._compute_multi_modal_inputs = make_and_compare


@register(AGENT)
class ActFERAgentLoop(AgentLoopBase):
    """Plays one episode as one trajectory.

    Args:
        detector: A detector's spec.
        chat: Fields of `ChatConfig`.
        episode: Fields of `EpisodeConfig`.
        turn_tokens: Most tokens of one assistant turn.
        tool_threads: Threads that run tools, in each worker; default is the event loop's own pool. One is faster where
            the workers have no core for themselves.
        library_threads: Threads of OpenCV and ONNX Runtime in each worker; by themselves they take all cores, for each
            of the workers. They never take a GPU: none belongs to a worker.
        score_here: Do the first pass here, by `compute_score` with verl's ``reward_kwargs``, instead of in verl's
            reward workers, for which verl processes every picture once more.
        **kwargs: what verl passes.
    """

    def __init__(
        self,
        *args: Any,
        detector: str = "auto",
        chat: Mapping[str, Any] | None = None,
        episode: Mapping[str, Any] | None = None,
        turn_tokens: int = 1024,
        tool_threads: int | None = None,
        library_threads: int = 1,
        score_here: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        use_hardware(Hardware(threads=library_threads, gpu=False))  # before the detector is built
        self.threads, self.score_here = _threads(tool_threads), score_here
        self.chat, self.limits = ChatConfig(**dict(chat or {})), EpisodeConfig(**dict(episode or {}))
        self.tools, self.turn_tokens = shared_tools(detector, self.chat), turn_tokens
        self.codec = _codec(self.tokenizer, self.processor.image_processor)

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """Play the episode of a row of `actfer data verl`.

        Raises:
            DataError: the row names no sample, or its prompt is longer than ``rollout.prompt_length``.
        """
        play = _Play(self, kwargs)
        conversation = await self._aside(play, play.begin)
        request, spent = uuid4().hex, {"generate_sequences": 0.0, "tool_calls": 0.0}
        while not conversation.episode.done:
            start = time.perf_counter()
            made = await self.server_manager.generate(
                request_id=request, prompt_ids=list(conversation.ids), image_data=play.pictures(),
                sampling_params={**sampling_params, **self._stops(), "max_tokens": play.room()},
            )  # fmt: skip
            middle = time.perf_counter()
            await self._aside(play, lambda made=made: play.write(made))
            spent["generate_sequences"] += middle - start
            spent["tool_calls"] += time.perf_counter() - middle
        return play.output(spent)

    def _stops(self) -> dict[str, Any]:
        """Return where the engine ends a turn, under the names that vLLM gives these settings."""
        tokens, texts = self.codec.stops()
        return {"stop_token_ids": tokens} | ({"stop": texts, "include_stop_str_in_output": True} if texts else {})

    async def _aside(self, play: _Play, work: Any) -> Any:
        """Run detection and drawing beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, play.timed, work)


class _Play:
    """One trajectory in the making."""

    def __init__(self, loop: ActFERAgentLoop, row: Mapping[str, Any]) -> None:
        self.loop, self.row = loop, row
        self.prompt, self.seconds = 0, 0.0
        self.logs: list[float] = []
        self.logged = True
        self.fields: dict[str, Any] = {}
        self.limit = int(loop.rollout_config.response_length)

    def begin(self) -> Conversation:
        loop, info = self.loop, dict(self.row.get("extra_info") or {})
        if "sample" not in info:
            raise DataError("the row names no sample: write the data with 'actfer data verl'")
        step, member = int(self.row.get("global_steps", 0)), int(self.row.get("session_id", 0))
        episode = ChatEpisode(sample_of(info["sample"]), loop.tools, loop.chat, loop.limits,
                              group_id=str(self.row.get("uid", "")), member=member, step=step)  # fmt: skip
        self.conversation = Conversation(episode, loop.codec)
        self.prompt = len(self.conversation.ids)
        if self.prompt > loop.rollout_config.prompt_length:
            raise DataError(f"the prompt has {self.prompt} tokens: set data.max_prompt_length to at least that")
        return self.conversation

    def timed(self, work: Callable[[], Any]) -> Any:
        """Do some work; its CPU time counts as the tools' (many sessions share the cores, so wall time would not)."""
        start = time.thread_time()
        try:
            return work()
        finally:
            self.seconds += time.thread_time() - start

    def room(self) -> int:
        return min(self.loop.turn_tokens, self.limit - (len(self.conversation.ids) - self.prompt))

    def pictures(self) -> list[Image.Image]:
        return [Image.fromarray(image) for image in self.conversation.images]

    def write(self, made: Any) -> None:
        """Play a turn; what follows it is kept only where it fits, its pictures with it.

        A turn ends before a special token that was sampled. Where that leaves nothing, the turn is empty: an end that
        was not sampled carries no loss.
        """
        conversation, ids, room = self.conversation, self.loop.codec.cut(list(made.token_ids)), self.room()
        self.fields.setdefault("min_global_steps", made.extra_fields.get("min_global_steps"))
        self.fields |= {key: value for key, value in made.extra_fields.items() if key != "min_global_steps"}
        self.logged = self.logged and made.log_probs is not None
        self.logs += [0.0] * (len(conversation.ids) - self.prompt - len(self.logs))
        self.logs += list(made.log_probs or [])[: len(ids)]
        conversation.write(ids)
        if len(ids) >= room and ids[-1] not in self.loop.codec.stops()[0]:
            conversation.episode.note_cut()
        if not conversation.episode.done and len(conversation.ids) - self.prompt >= self.limit:
            conversation.episode.stop("too_long")
            conversation.drop_reply()

    def output(self, spent: Mapping[str, float]) -> AgentLoopOutput:
        conversation, start = self.conversation, self.prompt
        if len(conversation.ids) == start:  # verl takes no response without a token
            conversation.ids.append(self.loop.codec.end_id)
            conversation.written.append(False)
        conversation.check()
        length = len(conversation.ids) - start
        logs = (self.logs + [0.0] * length)[:length] if self.logged else None
        rollout = json.dumps(conversation.episode.rollout().to_dict())
        score: dict[str, Any] = {}
        if self.loop.score_here:
            options = self.loop.config.reward.custom_reward_function.get("reward_kwargs") or {}
            score = compute_score("", "", "", {"rollout": rollout}, **options)
        return AgentLoopOutput(
            reward_score=score.get("score"),
            prompt_ids=conversation.ids[:start], response_ids=conversation.ids[start:],
            response_mask=[int(mine) for mine in conversation.written[start:]], response_logprobs=logs,
            multi_modal_data={"images": self.pictures()}, num_turns=2 * len(conversation.turns),
            metrics=dict(spent),
            extra_fields={**self.fields, "rollout": rollout, "tool_seconds": self.seconds, "turn_scores": [],
                          "tool_rewards": [], **({"reward_extra_info": score} if score else {})},
        )  # fmt: skip
