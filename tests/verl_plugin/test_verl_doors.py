"""verl's agent loop plays the script of every other door: one record, the same pixels, the same rewards."""

from __future__ import annotations

import asyncio
import json
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from integrations.test_doors import FACES, SAMPLE, TEXTS, digest, of_chat

from actfer_env.agents.qwen.torchvision_guard import guard
from actfer_env.rollout import Rollout

pytest.importorskip("verl", reason="needs verl: pip install 'actfer-env[verl]'")


def test_the_agent_loop_gives_the_digest_of_every_door(tmp_path: Any) -> None:
    os.environ.setdefault("VERL_PLATFORM", "cpu")
    guard()  # before verl loads transformers
    from actfer_env.agents.qwen.agent import load
    from actfer_env.agents.qwen.conversation import TokenCodec
    from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
    from actfer_env.chat import ChatConfig, chat_tools
    from actfer_env.episode import EpisodeConfig
    from actfer_env.verl_plugin.agent_loop import ActFERAgentLoop
    from actfer_env.verl_plugin.rows import reference
    from actfer_env.verl_plugin.scoring import StepScorer

    _, tokenizer, image_processor = load(build(tmp_path / "model", TinyQwenConfig()), "float32")
    loop = ActFERAgentLoop.__new__(ActFERAgentLoop)  # as a worker makes it, but for verl's servers
    loop.tokenizer, loop.codec = tokenizer, TokenCodec(tokenizer, image_processor)
    loop.rollout_config = SimpleNamespace(prompt_length=8192, response_length=4096)
    loop.chat, loop.limits, loop.turn_tokens, loop.score_here = ChatConfig(), EpisodeConfig(), 1024, False
    loop.tools, loop.threads = chat_tools("auto", loop.chat), None
    turns = iter(TEXTS)

    async def generate(**_: Any) -> Any:
        ids = [*loop.codec.encode(next(turns)), loop.codec.end_id]
        return SimpleNamespace(token_ids=ids, log_probs=None, extra_fields={})

    loop.server_manager = SimpleNamespace(generate=generate)
    row = {"extra_info": {"sample": json.dumps(reference(SAMPLE, FACES))}, "uid": "u"}
    output = asyncio.run(loop.run({}, **row))
    _, _, scores = StepScorer().score(["u"], [output.extra_fields], [False])
    pictures = [np.asarray(one) for one in output.multi_modal_data["images"]]
    rollout = Rollout.from_dict(json.loads(output.extra_fields["rollout"]))
    assert len(pictures) == 3 and digest(rollout, pictures, scores.terms(0)) == digest(*of_chat())
