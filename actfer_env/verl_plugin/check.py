"""Settings of verl under which a run would not be UC-GRPO, or would stop later, refused before anything starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from actfer_env.chat import CHAT_PRESETS, ChatConfig
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import ActFERError
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rewards.config import RewardError
from actfer_env.rewards.other_papers import AnswerReward
from actfer_env.rewards.registry import OTHER_REWARDS
from actfer_env.verl_plugin import TRAINER
from actfer_env.verl_plugin.launch import machine_problems
from actfer_env.verl_plugin.rows import AGENT
from actfer_env.verl_plugin.scoring import reward_config

PASS_ONE = "actfer_env.verl_plugin.scoring"
RECORD_TOKENS = "record_tokens"
"""Setting beside the reward's: whether each step's tokens, loss masks and picture sizes are written, for audit."""
_OWN = frozenset(
    ("name", "_target_", "detector", "turn_tokens", "tool_threads", "library_threads", "score_here", "chat", "episode")
)


def check_launch(config: Any, trainers: Collection[str] = (TRAINER,)) -> None:
    """Check a whole configuration and the machine before verl starts, and say all that is wrong at once.

    Args:
        config: verl's configuration, as Hydra composed it.
        trainers: Names of the trainers that score as this project does.

    Raises:
        LaunchError: a line for each thing that is wrong, with its cure.
    """
    mode, problems = config.trainer.v1.trainer_mode, []
    if not config.trainer.get("use_v1", True) or mode not in trainers:
        problems.append(f"trainer.v1.trainer_mode is {mode!r}: set it to {TRAINER}, with trainer.use_v1=True")
    problems += [*_config_problems(config), *machine_problems(config)]
    if problems:
        raise LaunchError(problems)


class LaunchError(RewardError):
    """A run that would stop or mislead.

    Attributes:
        problems: A line for each thing that is wrong.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        many = f"{len(self.problems)} things would stop this run:\n" + "\n".join(f"  - {one}" for one in self.problems)
        super().__init__(self.problems[0] if len(self.problems) == 1 else many)


def check_config(config: Any) -> None:
    """Refuse settings under which verl's numbers would not be UC-GRPO's.

    Args:
        config: verl's configuration.

    Raises:
        RewardError: the first of them: one line that names the setting and the cure.
    """
    for problem in _config_problems(config):
        raise RewardError(problem)


def _config_problems(config: Any) -> Iterator[str]:
    algorithm = config.algorithm
    if algorithm.adv_estimator != "grpo":
        yield f"{TRAINER} needs algorithm.adv_estimator=grpo, not {algorithm.adv_estimator}"
    if algorithm.get("use_kl_in_reward", False):
        yield f"{TRAINER} needs algorithm.use_kl_in_reward=False: set actor.use_kl_loss=True instead"
    if (algorithm.get("filter_groups") or {}).get("enable", False):
        yield f"{TRAINER} needs algorithm.filter_groups.enable=False: the filter would read pass 1 alone"
    try:
        split_options(config.get("ucgrpo"))
    except RewardError as error:
        yield str(error)
    path = ((config.get("reward") or {}).get("custom_reward_function") or {}).get("path")
    if path is not None and PASS_ONE not in str(path) and not str(path).endswith("scoring.py"):
        yield f"reward.custom_reward_function.path is {path}: set it to pkg://{PASS_ONE}"
    agent = ((config.get("actor_rollout_ref") or {}).get("rollout") or {}).get("agent") or {}
    try:
        if agent.get("agent_loop_config_path"):
            check_agent_loop(agent["agent_loop_config_path"])
            yield from _preset_problems(config.get("ucgrpo"), agent["agent_loop_config_path"])
    except RewardError as error:
        yield str(error)


def _preset_problems(options: Mapping[str, Any] | None, path: str) -> Iterator[str]:
    """Compare the reward with the way of asking: each paper's reward reads its own format."""
    from omegaconf import OmegaConf

    variant = (options or {}).get("variant", "full")
    loops: Any = OmegaConf.to_container(OmegaConf.load(path))
    preset = next((loop.get("chat") or {} for loop in loops if loop.get("name") == AGENT), {}).get("preset", "actfer")
    if variant in CHAT_PRESETS and preset != variant:
        yield f"ucgrpo.variant is {variant} and {path} asks as {preset}: set its chat to {{preset: {variant}}}"
    elif variant not in CHAT_PRESETS and not CHAT_PRESETS[preset].tools:
        others = ", ".join(name for name in OTHER_REWARDS if name in CHAT_PRESETS)
        yield (
            f"ucgrpo.variant is {variant} and {path} asks as {preset}, which has no tools: leave out its chat's "
            f"preset, or set ucgrpo.variant to one of {others}"
        )


def split_options(options: Mapping[str, Any] | None) -> tuple[UCGRPOConfig | AnswerReward, bool]:
    """Return the reward's constants of the section ``ucgrpo``, and its `RECORD_TOKENS`.

    Args:
        options: Options as `reward_config` takes them, with `RECORD_TOKENS` besides.

    Raises:
        RewardError: the variant or a field is unknown, or a value is out of range.
    """
    chosen = dict(options or {})
    record = chosen.pop(RECORD_TOKENS, False)
    if not isinstance(record, bool):
        raise RewardError(f"ucgrpo.{RECORD_TOKENS} must be true or false, got {record!r}")
    return reward_config(chosen), record


def check_agent_loop(path: str) -> None:
    """Check the file that describes the agent loop.

    Args:
        path: ``rollout.agent.agent_loop_config_path``.

    Raises:
        RewardError: the file is missing, does not name the loop, or has an unknown field.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    name = "rollout.agent.agent_loop_config_path"
    if not Path(path).is_file():
        raise RewardError(f"{name}: there is no file {path}")
    try:
        entries = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise RewardError(f"{name}: {path} is no YAML: {str(error).splitlines()[0]}") from error
    listed = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    mine = [one for one in listed if one.get("name") == AGENT]
    if len(mine) != 1:
        raise RewardError(f"{name}: {path} must hold one entry whose name is {AGENT}")
    for key in mine[0]:
        if key not in _OWN:
            raise RewardError(f"{path}: unknown field {key!r}: use one of {', '.join(sorted(_OWN))}")
    _build(ChatConfig, mine[0].get("chat"), f"{path}: chat")
    _build(EpisodeConfig, mine[0].get("episode"), f"{path}: episode")


def _build(kind: Any, values: Any, where: str) -> None:
    known = [item.name for item in fields(kind)]
    for name in values or {}:
        if name not in known:
            raise RewardError(f"{where} has no field {name!r}: use one of {', '.join(known)}")
    try:
        kind(**(values or {}))
    except (ActFERError, TypeError, ValueError) as error:
        raise RewardError(f"{where}: {str(error).splitlines()[0]}") from error
