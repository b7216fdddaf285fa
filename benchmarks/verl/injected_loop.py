"""The agent loop of the injected groups: the project's own, but the script writes the turns instead of the model."""

from __future__ import annotations

from typing import Any

from injected import FAILS, GROUPS, script
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.workers.rollout.replica import TokenOutput

from actfer_env.verl_plugin.agent_loop import ActFERAgentLoop
from actfer_env.verl_plugin.rows import sample_of


class InjectedAgentLoop(ActFERAgentLoop):
    """Plays the script of a row's group and session."""

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """Play an episode by script, or fail where the script says so.

        Raises:
            RuntimeError: the script lets this session fail.
        """
        info = kwargs["extra_info"]
        does = list(GROUPS.values())[int(info["index"])][int(kwargs["session_id"])]
        if does == FAILS:
            raise RuntimeError("injected: this session fails")
        turns = script(sample_of(info["sample"]), does)
        self.server_manager = _Scripted(self.codec, turns, int(kwargs["global_steps"]) - 1)
        return await super().run(sampling_params, **kwargs)


class _Scripted:
    """Answers like verl's client of the rollout servers."""

    def __init__(self, codec: Any, turns: list[str], step: int) -> None:
        self.codec, self.turns, self.step = codec, iter(turns), step

    async def generate(self, **_: Any) -> TokenOutput:
        text = next(self.turns)
        ids = list(self.codec.tokenizer(text, add_special_tokens=False).input_ids)
        end = [] if text.startswith("<tool_call>") else [self.codec.end_id]
        ids += end
        versions = dict.fromkeys(("global_steps", "min_global_steps", "max_global_steps"), self.step)
        return TokenOutput(token_ids=ids, log_probs=[0.0] * len(ids), stop_reason="completed", extra_fields=versions)
