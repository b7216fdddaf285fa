"""Policies of Stable-Baselines3 as agents: PPO, DQN, MaskablePPO, and others that these packages load.

Needs the extra "sb3". A file of Stable-Baselines3 holds pickled objects: load only files that you trust.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.agents.base import Batch, is_batch
from actfer_env.agents.torch_files import packed_bytes, unpacked_bytes
from actfer_env.agents.trained import check_trained, observed_sizes
from actfer_env.errors import DataError, short
from actfer_env.identity import file_facts
from actfer_env.packages import needs

_ENVS = {"MultiDiscrete": "ActFER-MultiDiscrete-v0", "Discrete": "ActFER-Discrete-v0"}


class SB3Agent:
    """A Stable-Baselines3 model that plays episodes with the observations of its training.

    It was trained on `actfer_env.wrappers.sb3.make_sb3_vec`, or on an environment from `gym.make`: both give the same
    observations. MaskablePPO gets the observation's action mask; the others may choose an illegal action, which costs a
    turn, as in their training.

    Args:
        model: The model.
        sample: Draw actions instead of taking the likeliest.
        seed: Seed of the draws.
        name: Name for messages.
    """

    def __init__(
        self, model: Any, *, sample: bool = False, seed: int = 0, name: str | os.PathLike[str] = "SB3 model"
    ) -> None:
        self.model, self.sample, self.name = model, sample, str(name)
        self._masked = "action_masks" in model.predict.__code__.co_varnames
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._numpy: Any = np.random.RandomState(seed).get_state()
        model.action_space.seed(seed)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, sample: bool = False, seed: int = 0) -> SB3Agent:
        """Read a model that `model.save(path)` wrote; which algorithm it is of is found in the file.

        Args:
            path: The file; ".zip" may be left out.
            sample: Draw actions instead of taking the likeliest.
            seed: Seed of the draws.

        Raises:
            DataError: there is no such file, it is broken, or its packages are missing.
        """
        place = Path(path)
        place = place if place.is_file() else place.with_name(f"{place.name}.zip")
        if not place.is_file():
            raise DataError(f"{path}: no such file: give what SB3's model.save() wrote")
        algorithm = _algorithm(place)
        try:
            model = algorithm.load(place, device="cpu")
        except Exception as error:
            why = short(" ".join(str(error).split()), 160)
            raise DataError(f"{place} cannot be loaded as {algorithm.__name__} ({type(error).__name__}: {why}): "
                            "save the model again with the installed stable-baselines3") from error  # fmt: skip
        if not isinstance(model.observation_space, spaces.Dict) or "action_mask" not in model.observation_space.spaces:
            raise DataError(f"{place} was not trained on an ActFER environment: its observations lack 'action_mask'")
        return cls(model, sample=sample, seed=seed, name=place)

    @property
    def env_arguments(self) -> dict[str, Any]:
        """Arguments of `gym.make` that make the environment of the training, its `id` among them."""
        seen, space = self.model.observation_space, self.model.action_space
        found: dict[str, Any] = observed_sizes({key: value.shape or () for key, value in seen.items()})
        found["max_turns"] = int(seen["turns_left"].n) - 1
        if type(space).__name__ in _ENVS:
            found["id"] = _ENVS[type(space).__name__]
        return found

    def check(self, env: Any) -> None:
        """Compare an environment, single or vector, with that of the training.

        Raises:
            DataError: actions, pictures or budgets differ.
        """
        self.check_space(getattr(env, "single_action_space", env.action_space))
        check_trained(self.name, self.env_arguments, env)

    def check_space(self, space: Any, au_set: Sequence[int] = ()) -> None:
        """Refuse another action space than that of the training with a `DataError`."""
        mine = self.model.action_space
        if space != mine:
            units = f" with {len(mine) - 2} Action Units" if isinstance(mine, spaces.MultiDiscrete) else ""
            known = _ENVS.get(type(mine).__name__)
            raise DataError(f"the policy in {self.name} acts in {short(mine)}, the environment in {short(space)}: "
                            f"play it in {known or 'the environment of its training'}{units}")  # fmt: skip

    @property
    def identity(self) -> dict[str, Any]:
        """Digest of the model's file, where it was read from one."""
        path = Path(self.name)
        return {"file": file_facts(path)["digest"]} if path.is_file() else {}

    def random_state(self) -> dict[str, Any]:
        """Return where the random streams stand, as JSON values; nothing where no action is drawn."""
        if not self.sample:
            return {}
        kind, keys, *rest = self._numpy  # as numpy.random.get_state returns it
        spaces_too = _streams(self.model.action_space)
        return {"torch": packed_bytes(self._torch), "numpy": [kind, keys.tolist(), *rest],
                "space": [stream.bit_generator.state for stream in spaces_too]}  # fmt: skip

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `random_state`."""
        if self.sample:
            kind, keys, *rest = state["numpy"]
            self._torch, self._numpy = unpacked_bytes(state["torch"]), (kind, np.array(keys, np.uint32), *rest)
            for stream, place in zip(_streams(self.model.action_space), state["space"], strict=True):
                stream.bit_generator.state = place

    def reset(self, n: int) -> None:
        """Do nothing: the observation tells all, and the draws go on."""

    def act(self, obs: Batch, info: Batch) -> Any:
        """Return the next actions; see `Agent.act`."""
        seen = {key: np.asarray(value) for key, value in obs.items()}
        options = {}
        if self._masked:
            legal = np.array(seen["action_mask"], bool)
            head = len(facs.REGIONS) + 2 if isinstance(self.model.action_space, spaces.MultiDiscrete) else None
            legal[~legal[..., :head].any(-1)] = True  # frozen members: their actions are ignored
            options["action_masks"] = legal
        actions = self._predict(seen, options)
        return actions if is_batch(obs) or np.ndim(actions) else np.int64(actions)

    def tool_scores(self, obs: Batch, info: Batch) -> NDArray[np.float64]:
        """Return the logits of the model's tools for a batch (n, 6), or of its actions (n, 13); of DQN its values."""
        del info
        policy: Any = self.model.policy
        with torch.no_grad():
            seen = policy.obs_to_tensor({key: np.asarray(value) for key, value in obs.items()})[0]
            if hasattr(policy, "get_distribution"):
                made = policy.get_distribution(seen)
                parts = made.distributions if hasattr(made, "distributions") else made.distribution
                logits = (parts[0] if isinstance(parts, list) else parts).logits
            elif hasattr(policy, "q_net"):
                logits = policy.q_net(seen)
            else:
                logits = policy.quantile_net(seen).mean(1)
        return np.asarray(logits.numpy(), float)

    def _predict(self, seen: dict[str, Any], options: dict[str, Any]) -> Any:
        """Return the model's actions; draws come from streams of this agent's own."""
        if not self.sample:
            return self.model.predict(seen, deterministic=True, **options)[0]
        before = np.random.get_state()  # noqa: NPY002
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._torch)
            np.random.set_state(self._numpy)  # noqa: NPY002
            try:
                actions = self.model.predict(seen, deterministic=False, **options)[0]
            finally:
                self._torch, self._numpy = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
                np.random.set_state(before)  # noqa: NPY002
        return actions


def _streams(space: Any) -> list[np.random.Generator]:
    """Return the random streams of an action space, of which DQN's exploration draws."""
    inner = [stream for part in getattr(space, "spaces", ()) for stream in _streams(part)]
    return [space.np_random, *inner]


def _algorithm(path: Path) -> Any:
    """Return the class that a file's model is of, by what the file says of its policy; nothing is unpickled here.

    Raises:
        DataError: the file is broken, or of an algorithm that is not known.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            data = json.loads(packed.read("data"))
        module = str(data["policy_class"]["__module__"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no model of Stable-Baselines3, or is truncated ({type(error).__name__}): "
                        "save it again with model.save()") from error  # fmt: skip
    with needs("sb3"):
        import stable_baselines3 as sb3
    if module.startswith("sb3_contrib"):
        with needs("sb3"):
            import sb3_contrib
        known = {"sb3_contrib.common.maskable.policies": "MaskablePPO", "sb3_contrib.qrdqn.policies": "QRDQN"}
        if module in known:
            return getattr(sb3_contrib, known[module])
    elif module == "stable_baselines3.dqn.policies":
        return sb3.DQN
    elif module == "stable_baselines3.common.policies":
        return sb3.PPO if "clip_range" in data else sb3.A2C
    raise DataError(f"{path} has a policy of {module}: PPO, A2C, DQN, MaskablePPO and QRDQN can be loaded")
