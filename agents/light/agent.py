"""A trained light policy as an agent: read from its folder, played in any environment, exported, and saved again.

A policy's folder holds `config.json` (sizes, labels, and what it was trained on), `policy.pt` (the weights) and
`README.md` (the model card). `actfer train --out FOLDER` writes it, and so does `LightAgent.save_pretrained`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.agents.base import Batch, is_batch, join
from actfer_env.agents.light.policy import ANSWER, DETECT, REGIONS, TOOLS, Decisions, LightPolicy, Memory, PolicyConfig
from actfer_env.agents.light.record import CONFIG, WEIGHTS, PolicyRecord, read_record, write_policy
from actfer_env.agents.light.rollouts import choose_actions
from actfer_env.agents.light.trainer import weights_hash
from actfer_env.agents.torch_files import load_state, packed_bytes, unpacked_bytes
from actfer_env.agents.trained import check_trained, observed_sizes
from actfer_env.boxes import Box
from actfer_env.envs.actions import CODECS, ActionCodec, DictActions, Move
from actfer_env.envs.observations import crop_regions
from actfer_env.episode import ANSWER as ANSWER_NAME
from actfer_env.episode import State
from actfer_env.errors import DataError, short
from actfer_env.identity import refuse_other
from actfer_env.tools.schema import DETECT_ALIGN, ZOOM_IN

if TYPE_CHECKING:
    from actfer_env.agents.light.export import ExportFormat


class LightAgent:
    """A trained light policy that plays `ActFER-v0`, `ActFER-MultiDiscrete-v0` and `ActFER-Discrete-v0`.

    It looks at the observation alone, so it may be asked in any order. In `ActFER-Discrete-v0` the answer's Action
    Units are those of the emotion's prototype, as that environment has it.

    Args:
        policy: The network.
        record: Its sizes, labels and training.
        sample: Draw actions instead of taking the likeliest.
        seed: Seed of the draws.
        name: Name for messages.

    Example:
        ``agent = LightAgent.load("actfer-train"); env = gym.make("ActFER-MultiDiscrete-v0", **agent.env_arguments)``
    """

    def __init__(
        self, policy: LightPolicy, record: PolicyRecord, *, sample: bool = False, seed: int = 0,
        name: str | os.PathLike[str] = "light policy",
    ) -> None:  # fmt: skip
        self.policy, self.record, self.name = policy.eval(), record, str(name)
        self._generator = torch.Generator().manual_seed(seed) if sample else None
        self._codecs: dict[int, ActionCodec] = {
            codec.mask_size: codec for codec in (make(record.au_set) for make in CODECS.values())
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, sample: bool = False, seed: int = 0) -> LightAgent:
        """Read a policy's folder.

        Args:
            folder: Folder that `actfer train --out FOLDER` or `save_pretrained` wrote.
            sample: Draw actions instead of taking the likeliest.
            seed: Seed of the draws.

        Raises:
            DataError: a file is missing, broken, of other sizes, or of a newer version.
        """
        place = Path(folder)
        record = read_record(place)
        sides = record.image_size, record.face_size, record.crop_size
        policy, path = LightPolicy(PolicyConfig(**record.policy), sides), place / WEIGHTS
        if not path.is_file():
            raise DataError(f"{path} is missing: copy the whole folder again, or train again")
        state = load_state(path, cure="copy the whole folder again, or train again")
        try:
            policy.load_state_dict(state)
            same = weights_hash(policy) == record.weights
        except (AttributeError, RuntimeError, TypeError):  # other names or shapes
            same = False
        if not same:
            raise DataError(f"{path} does not hold the weights that {place / CONFIG} describes: "
                            "copy both files again, or train again")  # fmt: skip
        return cls(policy, record, sample=sample, seed=seed, name=place)

    from_pretrained = load

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the policy's folder, its model card among it; `load` reads it.

        Raises:
            DataError: the folder cannot be written.
        """
        write_policy(folder, self.policy, self.record)

    @property
    def env_arguments(self) -> dict[str, Any]:
        """Arguments of `gym.make` that make the environment of the training."""
        return self.record.env_arguments

    def check(self, env: Any) -> None:
        """Compare an environment, single or vector, with that of the training.

        Raises:
            DataError: pictures, budgets, Action Units or the detector differ.
        """
        check_trained(self.name, self.env_arguments, env)

    def check_space(self, space: Any, au_set: Sequence[int] = facs.CORE_AUS) -> None:
        """Refuse an action space, or Action Units, that the policy does not answer in, with a `DataError`."""
        refuse_other(self.name, "policy", {"au_set": self.record.au_set}, {"au_set": tuple(au_set)})
        if not any(codec.space == space for codec in self._codecs.values()):
            raise DataError(f"the policy in {self.name} cannot act in {short(space)}: "
                            "play it in ActFER-v0, ActFER-MultiDiscrete-v0 or ActFER-Discrete-v0")  # fmt: skip

    @property
    def identity(self) -> dict[str, Any]:
        """Digest of the weights, which tells the policy from others."""
        return {"weights": self.record.weights}

    def random_state(self) -> dict[str, Any]:
        """Return where the random stream stands, as JSON values; nothing where no action is drawn."""
        return {} if self._generator is None else {"torch": packed_bytes(self._generator.get_state())}

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `random_state`."""
        if self._generator is not None:
            self._generator.set_state(unpacked_bytes(state["torch"]))

    def reset(self, n: int) -> None:
        """Do nothing: the observation tells all, and the draws go on."""

    @torch.no_grad()
    def act(self, obs: Batch, info: Batch) -> Any:
        """Return the next actions; see `Agent.act`.

        Raises:
            DataError: the observation is not of the environment of the training.
        """
        seen = _as_batch(obs)
        codec = self._codec(seen)
        memory, decisions = self._inputs(seen, codec)
        tool, emotion, aus = choose_actions(self.policy(memory, decisions), self._generator)
        moves = []
        for i, choice in enumerate(tool.tolist()):
            if choice == ANSWER:
                units = frozenset(unit for unit, bit in zip(self.record.au_set, aus[i].tolist(), strict=True) if bit)
                moves.append(Move(ANSWER_NAME, emotion=facs.EMOTIONS[int(emotion[i])], aus=units))
            elif choice == DETECT:
                moves.append(Move(DETECT_ALIGN))
            else:
                box = Box(*map(float, seen["region_boxes"][i][choice - 1]))
                moves.append(Move(ZOOM_IN, facs.REGIONS[choice - 1], box))
        return join([codec.encode(move) for move in moves], obs)

    @torch.no_grad()
    def tool_scores(self, obs: Batch, info: Batch) -> NDArray[np.float64]:
        """Return the logits of detect_align, the four regions and an answer (n, 6); of what is illegal -inf.

        Raises:
            DataError: the observation is not of the environment of the training.
        """
        del info
        seen = _as_batch(obs)
        memory, decisions = self._inputs(seen, self._codec(seen))
        return np.asarray(self.policy(memory, decisions).tool.numpy(), float)

    def inputs(self, obs: Batch) -> dict[str, NDArray[Any]]:
        """Return the arrays that an exported policy takes: name -> values with a leading axis of n.

        They are those of the observation, but for `crops`, which stacks `crop_0` ... as uint8 (n, k, s, s, 3), and for
        `legal`, int8 (n, 6): whether detect_align, each region, and an answer are legal.
        """
        seen = _as_batch(obs)
        shown = crop_regions(seen)[1]
        kept = ("image", "face", "crop_boxes", "crop_mask", "region_boxes", "state", "turns_left")
        slots = seen["crop_mask"].shape[1]
        return {
            **{name: np.ascontiguousarray(seen[name]) for name in kept},
            "crops": np.stack([seen[f"crop_{slot}"] for slot in range(slots)], 1),
            "legal": legal_choices(seen, self._codec(seen), shown).astype(np.int8),
        }

    def export(self, path: str | os.PathLike[str], format: ExportFormat = "onnx") -> Path:
        """Write the policy as one file that needs no part of this package.

        It takes the arrays of `inputs` by name, and returns logits: `tool` (n, 6), illegal ones at -inf, `emotion`
        (n, 8) and `aus` (n, Action Units), float32. The file carries `config.json`.

        Args:
            path: The file.
            format: "onnx" or "torchscript".

        Returns:
            The path.

        Raises:
            DataError: unknown format, onnx is missing, or the file cannot be written.
        """
        from actfer_env.agents.light.export import export_policy

        return export_policy(self.policy, self.record, Path(path), format)

    def _codec(self, seen: Mapping[str, NDArray[Any]]) -> ActionCodec:
        """Return how the environment of an observation writes actions; refuse one of other sizes."""
        found = observed_sizes({name: value.shape[1:] for name, value in seen.items()})
        wanted = {name: self.env_arguments[name] for name in found if name in self.env_arguments}
        refuse_other(self.name, "policy", wanted, {name: found[name] for name in wanted})
        entries = seen["action_mask"].shape[1]
        if entries not in self._codecs:
            raise DataError(
                f"the environment's actions are not those of the policy in {self.name}, which answers with "
                f"{len(self.record.au_set)} Action Units: pass au_set={facs.format_au_set(self.record.au_set)!r}"
            )
        return self._codecs[entries]

    def _inputs(self, seen: Mapping[str, NDArray[Any]], codec: ActionCodec) -> tuple[Memory, Decisions]:
        regions, shown = crop_regions(dict(seen))
        n, slots = seen["crop_mask"].shape
        crops = np.zeros((n, REGIONS, *seen["crop_0"].shape[1:]), np.uint8)
        has_crop = np.zeros((n, REGIONS), bool)
        for slot in range(slots):
            places = regions[:, slot]
            fresh = (seen["crop_mask"][:, slot] == 1) & shown[np.arange(n), places] & ~has_crop[np.arange(n), places]
            rows = np.flatnonzero(fresh)
            crops[rows, places[rows]] = seen[f"crop_{slot}"][rows]
            has_crop[rows, places[rows]] = True
        state = torch.from_numpy(seen["state"].astype(np.int64))
        memory = Memory(
            torch.tensor(seen["image"]), torch.tensor(seen["face"]), torch.from_numpy(crops),
            torch.ones(n, dtype=torch.bool), state == State.ALIGNED, torch.from_numpy(has_crop),
        )  # fmt: skip
        left = torch.from_numpy((seen["turns_left"] / self.record.max_turns).astype(np.float32))
        legal = torch.from_numpy(legal_choices(seen, codec, shown))
        return memory, Decisions(torch.arange(n), torch.from_numpy(has_crop), state, left, legal)


def legal_choices(seen: Mapping[str, NDArray[Any]], codec: ActionCodec, shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of detect_align, the four regions and an answer are legal, bool (n, 6).

    Where nothing is, as of a frozen member, an answer is; it is ignored there.

    Args:
        seen: Observations of n environments.
        codec: Form of their actions, which the mask follows.
        shown: bool (n, 4), regions that have a crop.
    """
    mask = np.asarray(seen["action_mask"], bool)
    if isinstance(codec, DictActions):  # one entry for each tool
        mask = np.column_stack([mask[:, :1], mask[:, 1:2] & ~shown, mask[:, 2:3]])
    elif codec.derives_aus:  # an entry for each emotion
        mask = np.column_stack([mask[:, :ANSWER], mask[:, ANSWER:].any(1)])
    legal = mask[:, :TOOLS].copy()
    legal[~legal.any(1), ANSWER] = True
    return legal


def _as_batch(obs: Batch) -> dict[str, NDArray[Any]]:
    """Return an observation, or a batch of them, as arrays with a leading axis."""
    try:
        batch = is_batch(obs)
        needed = ("image", "face", "crop_0", "crop_boxes", "crop_mask", "region_boxes", "turns_left", "action_mask")
        missing = [name for name in needed if name not in obs]
    except (KeyError, TypeError, IndexError):
        missing, batch = ["state"], False
    if missing:
        raise DataError(f"the observation lacks {', '.join(missing)}: play an ActFER environment, "
                        "without wrappers that change observations")  # fmt: skip
    return {name: np.asarray(value) if batch else np.asarray(value)[None] for name, value in obs.items()}
