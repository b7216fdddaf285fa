"""verifiers 0.4: a taskset, the harness that plays its episodes, and groups scored by contrast. Needs `[verifiers]`.

``vf-eval actfer_verifiers`` runs it; `actfer_verifiers` is the module that verifiers finds by its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from actfer_env.chat import ChatConfig, ChatEpisode, shared_tools, to_openai
from actfer_env.chat.messages import data_url
from actfer_env.data import load_dataset
from actfer_env.data.references import reference, sample_of
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError, short
from actfer_env.packages import needs
from actfer_env.rewards import UCGRPO, UCGRPOConfig, au_f1
from actfer_env.rollout import Rollout

with needs("verifiers"):
    import httpx
    import verifiers.v1 as vf
    from pydantic import Field
    from verifiers.v1.runtimes import ProgramResult, SubprocessConfig
    from verifiers.v1.types import content_to_parts

ROLLOUT = "actfer_rollout"
"""Key of a trace's info that holds the record of its episode."""


class FaceTaskData(vf.TaskData):
    """A sample, named so that any process makes it again (`data.references`), and how it is played."""

    sample: str
    detector: str = "auto"
    chat: str = "actfer"
    max_turns: int = 6

    def begin(self) -> ChatEpisode:
        """Return a new episode of the task; those of a process share one detection."""
        chat = ChatConfig(preset=self.chat)
        limits = EpisodeConfig(max_turns=self.max_turns)
        return ChatEpisode(sample_of(self.sample), shared_tools(self.detector, chat), chat, limits)


class FaceTaskConfig(vf.TaskConfig):
    """Constants by which an attempt is scored."""

    variant: str = "full"
    """Variant of UC-GRPO."""
    tools: bool = False
    """Serve the tools to a harness of verifiers' own, such as null; `FaceHarness` needs no server."""


class FaceToolset(vf.Toolset[vf.ToolsetConfig, vf.State]):
    """The two tools as an MCP server of one attempt, for harnesses of verifiers' own; results are pictures and text."""

    TOOL_PREFIX = None

    async def setup_task(self, task: FaceTaskData) -> None:
        """Begin the task's episode."""
        self._episode = task.begin()

    @vf.tool
    async def detect_align(self):  # type: ignore[no-untyped-def]
        """Find the face, bring it upright and to size, and get its four facial regions."""
        return self._play("detect_align", {})

    @vf.tool
    async def zoom_in(self, regions: list[str] | None = None, boxes: list[list[float]] | None = None):  # type: ignore[no-untyped-def]
        """Magnify parts of the aligned face in their native detail.

        Regions are forehead-eyebrow, eye-periorbital, nose, mouth-chin; boxes are [x1, y1, x2, y2] on the aligned face,
        in the coordinates that the instructions name. One picture comes back for each.
        """
        given = {"regions": regions, "boxes": boxes}
        return self._play("zoom_in", {name: value for name, value in given.items() if value is not None})

    def _play(self, name: str, arguments: dict[str, Any]) -> list[Any]:
        from mcp.types import ImageContent, TextContent

        if self._episode.done:
            return [TextContent(type="text", text="the episode is over")]
        step = self._episode.step(None, [{"id": "call", "function": {"name": name, "arguments": arguments}}])
        codes = [data_url(picture).partition(",")[2] for picture in step.images]
        texts = [part["text"] for message in step.messages for part in message["content"] if part["type"] == "text"]
        return [
            *(ImageContent(type="image", data=code, mimeType="image/png") for code in codes),
            *(TextContent(type="text", text=text) for text in texts),
        ]


class FaceTask(vf.Task[FaceTaskData, vf.State, FaceTaskConfig]):
    """One picture: rewarded as a group of one, until an env scores its group."""

    @classmethod
    def toolsets(cls, config: FaceTaskConfig) -> list[vf.Toolset]:
        """Return the tools' server where the settings ask for it."""
        return [FaceToolset(vf.ToolsetConfig())] if config.tools else []

    @vf.stop
    async def over(self, trace: vf.Trace) -> bool:
        """Return whether the episode is over, for harnesses that do not play it themselves."""
        return self.config.tools and (await asyncio.to_thread(_replayed, self.data, trace)).done

    async def finalize(self, trace: vf.Trace, runtime: vf.Runtime) -> None:
        """Keep the record of an attempt that another harness has played: its turns are played again here."""
        if self.config.tools and ROLLOUT not in trace.info:
            episode = await asyncio.to_thread(_replayed, self.data, trace)
            if not episode.done:
                episode.stop("out_of_budget", f"verifiers stopped it: {trace.stop_condition}")
            trace.info[ROLLOUT] = episode.rollout().to_dict()

    @vf.reward
    async def ucgrpo(self, trace: vf.Trace) -> float:
        """Return the reward of the attempt as a group of one; `FaceGroupEnv` puts the group's in its place."""
        return float(_scorer(self.config.variant).score([rollout_of(trace)]).total[0])

    @vf.metric
    async def face(self, trace: vf.Trace) -> dict[str, float]:
        """Return accuracy, F1 of the Action Units, zooming and violations; what has no label or answer counts 0."""
        rollout = rollout_of(trace)
        f1 = 0.0 if rollout.aus is None else au_f1(rollout.predicted_aus, rollout.aus)
        return {"accuracy": float(rollout.correct is True), "au_f1": float(f1), "zoomed": float(rollout.zoomed),
                "violations": float(len(rollout.violations)), "truncated": float(rollout.truncated)}  # fmt: skip


class FaceTasksetConfig(vf.TasksetConfig):
    """Choice of the samples."""

    task: FaceTaskConfig = FaceTaskConfig()
    dataset: str = "synthetic"
    """A registered name."""
    root: str | None = None
    """Folder or file of the data set, for those that need one."""
    split: str | None = "test"
    """"train", "val" or "test"; None for all, and for data sets that have none."""
    n: int | None = None
    """Number of samples, from the first on; None is all."""
    detector: str = "auto"
    """A detector's spec."""
    chat: str = "actfer"
    """Preset of prompts and formats, one of `CHAT_PRESETS`."""
    max_turns: int = Field(6, ge=1)
    """Turns of an episode."""


class FaceTaskset(vf.Taskset[FaceTask, FaceTasksetConfig]):
    """The samples of a data set as tasks."""

    def load(self) -> Iterable[FaceTask]:
        """Yield a task for each sample."""
        config = self.config
        samples = load_dataset(config.dataset, config.root, config.split)
        for place in range(len(samples) if config.n is None else min(config.n, len(samples))):
            one = samples[place]
            data = FaceTaskData(
                id=one.id, name=one.id, prompt="Which facial expression does this picture show?",
                sample=json.dumps(reference(one, samples)), detector=config.detector, chat=config.chat,
                max_turns=config.max_turns,
            )  # fmt: skip
            if config.task.tools:  # other harnesses ask what the task says
                episode = data.begin()
                system, user = to_openai(episode.messages, episode.images)
                data = data.model_copy(update={
                    "system_prompt": system["content"],
                    "prompt": [vf.UserMessage(content=content_to_parts(user["content"]))],
                })  # fmt: skip
            yield FaceTask(data, config.task)


class FaceHarness(vf.Harness[vf.HarnessConfig]):
    """The episode as verifiers' program: it runs in this process, and asks the model through verifiers' own endpoint.

    Tool results are pictures. A turn that cannot be read, an unknown tool or unreadable arguments cost a turn and are
    answered, as in every other door.
    """

    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self, ctx: vf.ModelContext, trace: vf.Trace, runtime: vf.Runtime, endpoint: str, secret: str,
        mcp_urls: dict[str, str], data: FaceTaskData,
    ) -> ProgramResult:  # fmt: skip
        """Play the task's episode to its end.

        Returns:
            Success once the episode is over or one of verifiers' limits has ended it; else what the endpoint said.
        """
        episode = await asyncio.to_thread(data.begin)
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(timeout=None, headers=headers, trust_env=False) as client:
            while not episode.done:
                body: dict[str, Any] = {"model": ctx.model, "messages": to_openai(episode.messages, episode.images)}
                answer = await client.post(f"{endpoint}/chat/completions", json=body | _offered(episode))
                if answer.is_error:
                    if trace.stop_condition is None:
                        return ProgramResult(1, "", f"the model's endpoint said {answer.status_code}: {answer.text}")
                    episode.stop("out_of_budget", f"verifiers stopped it: {trace.stop_condition}")
                    break
                message = answer.json()["choices"][0]["message"]
                thought = message.get("reasoning_content") or message.get("reasoning")
                calls = message.get("tool_calls")
                await asyncio.to_thread(episode.step, message.get("content"), calls, reasoning=thought)
        trace.info[ROLLOUT] = episode.rollout().to_dict()
        return ProgramResult(0, "", "")


class FaceGroupEnvConfig(vf.EnvConfig):
    """Groups of attempts."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=SubprocessConfig())
    group: int = Field(1, ge=1)
    """Attempts at one picture, scored against each other."""
    variant: str = "full"
    """Variant of UC-GRPO."""


class FaceGroupEnv(vf.Env[FaceGroupEnvConfig]):
    """Attempts at one picture as a group of UC-GRPO: what zooming was worth is seen between them.

    Each attempt's reward is the group's, and its metrics tell the advantage and delta. The EMA does not move: verifiers
    does not say when the policy was updated.
    """

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """Let the agent try the task as often as the group is large."""
        async with asyncio.TaskGroup() as attempts:
            for _ in range(self.config.group):
                attempts.create_task(agents.agent.run(task))

    async def finalize(self, task: vf.Task, episode: vf.Episode) -> None:
        """Put the group's rewards in the place of the attempts' own.

        Raises:
            DataError: an attempt failed: a group that is not whole is not scored.
        """
        failed = [trace for trace in episode.traces if ROLLOUT not in trace.info]
        if failed:
            raise DataError(f"{len(failed)} of {len(episode.traces)} attempts failed: the group is not whole")
        rollouts = [replace(rollout_of(trace), member=place) for place, trace in enumerate(episode.traces)]
        scores = _scorer(self.config.variant).score(rollouts)
        for place, trace in enumerate(episode.traces):
            terms = scores.terms(place)
            trace.record_reward("ucgrpo", terms.pop("total"))
            trace.record_metrics({f"ucgrpo_{name}": value for name, value in terms.items()})
            trace.record_metric("ucgrpo_advantage", float(scores.advantage[place]))


def rollout_of(trace: vf.Trace) -> Rollout:
    """Return the record of a trace's episode, from which any reward of this package is computed.

    Raises:
        DataError: the trace was not made by `FaceHarness`.
    """
    kept = trace.info.get(ROLLOUT)
    if kept is None:
        raise DataError(f"trace {short(trace.id)} has no episode: play it with the harness actfer_verifiers")
    return Rollout.from_dict(kept)


def _replayed(data: FaceTaskData, trace: vf.Trace) -> ChatEpisode:
    """Return the episode after the turns of a trace that another harness has made."""
    episode = data.begin()
    for message in trace.assistant_messages:
        if not episode.done:
            calls = [
                {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls or ()
            ]
            text = message.content
            if calls and "<tool_call>" in str(text):  # such a harness plays the native calls alone
                text = ""
            episode.step(text, calls, reasoning=message.reasoning_content)
    return episode


@lru_cache(maxsize=8)
def _scorer(variant: str) -> UCGRPO:
    return UCGRPO(UCGRPOConfig.variant(variant))


def _offered(episode: ChatEpisode) -> dict[str, Any]:
    return {"tools": episode.tools} if episode.tools else {}


if __name__ == "__main__":  # as verifiers starts the tools' server
    FaceToolset.run()
