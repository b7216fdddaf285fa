"""Entry point of verl: everything registers itself at import."""

import os

from actfer_env.agents.qwen.fast_vision import use_fast_vision
from actfer_env.verl_plugin import beside_trl, cpu, frozen

if os.environ.get("VERL_PLATFORM", "").lower() == "cpu":
    cpu.install()
from actfer_env.verl_plugin import agent_loop, trainer  # noqa: F401

agent_loop.guard_pictures()
cpu.register_rollout()
use_fast_vision()
frozen.install()
beside_trl.install()
