"""Playing a light policy in group environments, and what training keeps of it.

Encoders that stay as they are can encode a whole data set once (`encode_all`) for all who play it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actfer_env.agents.light.policy import (
    ANSWER,
    AUS,
    DETECT,
    REGIONS,
    TOOLS,
    Decisions,
    Features,
    LightPolicy,
    Memory,
    log_prob,
)
from actfer_env.agents.light.views import Views
from actfer_env.data import Dataset
from actfer_env.episode import State
from actfer_env.rewards import Scores
from actfer_env.rollout import Rollout
from actfer_env.wrappers.group_vec import GroupVectorEnv

Obs = dict[str, Any]
Zooming = Literal["free", "never", "once", "always"]
"""After the face is aligned: the gate decides; it never zooms; it zooms once, then decides; it zooms while it can."""


@dataclass
class Batch:
    """Finished groups: pictures, decisions and outcomes.

    Attributes:
        memory: pictures, one row a group; None if the player knew their features.
        features: by the policy that played, one row a row of the memory, or a sample of the data set.
        decisions: m decisions.
        tool: int (m,), what was chosen.
        emotion: int (m,).
        aus: bool (m, AUs).
        old: float (m,), log-probabilities when chosen.
        advantage: float (m,), of the decision's rollout.
        rollouts: n.
        scores: of each group, in order.
    """

    memory: Memory | None
    features: Features
    decisions: Decisions
    tool: Tensor
    emotion: Tensor
    aus: Tensor
    old: Tensor
    advantage: Tensor
    rollouts: tuple[Rollout, ...]
    scores: tuple[Scores, ...]


class Player:
    """Plays groups with a policy; pictures are encoded once each.

    Args:
        venv: groups side by side, of `ActFER-MultiDiscrete-v0`.
        policy: in evaluation mode.
        generator: of the sampling; None is greedy.
        zooming: of each member of a group; free if left out.
        known: the features of the environment's data set by this policy's encoders, from `encode_all`; without them
            pictures are encoded as they come.
    """

    def __init__(
        self,
        venv: GroupVectorEnv,
        policy: LightPolicy,
        generator: torch.Generator | None,
        zooming: Sequence[Zooming] = (),
        known: Features | None = None,
    ) -> None:
        self.venv, self.policy, self.generator, self.known = venv, policy, generator, known
        self._zooming = np.array(list(zooming) * venv.num_groups) if zooming else None
        spaces: Any = venv.single_observation_space
        self._turns = int(spaces["turns_left"].n) - 1

    @torch.no_grad()
    def play(self, samples: list[int] | None = None) -> Batch:
        """Play until every group has ended once; groups that began anew meanwhile count if they have ended too.

        Args:
            samples: one for each group; drawn by the environment if left out.
        """
        obs, info = self.venv.reset(options=None if samples is None else {"samples": samples})
        shelf = self._shelf(obs)
        first, ended = set(info["group_id"]), set[str]()
        steps: list[dict[str, Any]] = []
        outcome: dict[tuple[str, int], float] = {}
        batch: tuple[list[Rollout], list[Scores]] = ([], [])
        while not first <= ended:
            rows = np.flatnonzero(info["active"])
            names = info["group_id"][rows]
            shelf.see(obs, rows, info)
            step = self._step(obs, rows, shelf)
            actions = np.zeros((self.venv.num_envs, 2 + AUS), np.int64)
            actions[rows] = np.column_stack([step["tool"], step["emotion"], step["aus"]])
            steps.append(step | {"keys": list(zip(names, rows.tolist(), strict=True))})
            obs, _, _, _, info = self.venv.step(actions)
            ended |= self._collect(info, outcome, *batch)
        return _batch((shelf.memory, shelf.features), steps, outcome, *batch)

    def _shelf(self, obs: Obs) -> _Shelf | _Known:
        if self.known is not None:
            return _Known(self.known, self.venv.dataset)
        return _Shelf(obs, 4 * self.venv.num_groups, self.policy)

    def _step(self, obs: Obs, rows: NDArray[np.intp], shelf: _Shelf | _Known) -> dict[str, Any]:
        decisions = self._decisions(obs, rows, shelf)
        out = self.policy.decide(shelf.features, decisions)
        tool, emotion, aus = self._choose(out)
        old = log_prob(out, tool, emotion, aus)
        return {"decisions": decisions, "tool": tool, "emotion": emotion, "aus": aus, "old": old}

    def _decisions(self, obs: Obs, rows: NDArray[np.intp], shelf: _Shelf | _Known) -> Decisions:
        shown = torch.from_numpy(shown_regions(obs)[rows])
        state = torch.from_numpy(obs["state"][rows].astype(np.int64))
        left = torch.from_numpy((obs["turns_left"][rows] / self._turns).astype(np.float32))
        mask = torch.from_numpy(obs["action_mask"][rows, :TOOLS].astype(bool))
        if self._zooming is not None:
            mask = forced(mask, shown, state, self._zooming[rows])
        return Decisions(torch.from_numpy(shelf.places), shown, state, left, mask)

    def _choose(self, out: Any) -> tuple[Tensor, Tensor, Tensor]:
        draw = self.generator
        if draw is None:
            return greedy_tool(out.tool), out.emotion.argmax(1), out.aus > 0
        tool = torch.multinomial(torch.softmax(out.tool, -1), 1, generator=draw)[:, 0]
        emotion = torch.multinomial(torch.softmax(out.emotion, -1), 1, generator=draw)[:, 0]
        return tool, emotion, torch.rand(out.aus.shape, generator=draw) < torch.sigmoid(out.aus)

    def _collect(
        self, info: dict[str, Any], outcome: dict[tuple[str, int], float], rollouts: list[Rollout],
        scores: list[Scores],
    ) -> set[str]:  # fmt: skip
        """Keep what ends in this step, and return the groups that do."""
        if "rollout" not in info:
            return set()
        done = np.flatnonzero(info["_rollout"])
        rollouts += [info["rollout"][i] for i in done]
        scores.append(self.venv.pending[-1])
        names = [info["rollout"][i].group_id for i in done]
        outcome.update({(n, int(i)): float(info["advantage"][i]) for n, i in zip(names, done, strict=True)})
        return set(names)


def forced(mask: Tensor, shown: Tensor, state: Tensor, zooming: NDArray[Any]) -> Tensor:
    """Where zooming is not free, look first; then take away the zooms, or the answer where a zoom is due."""
    mask, aligned = mask.clone(), state == State.ALIGNED
    never, always, free = (torch.from_numpy(zooming == kind) for kind in ("never", "always", "free"))
    mask[~free & (state == State.RAW), ANSWER] = False
    mask[:, 1:ANSWER] &= ~(never & aligned)[:, None]
    due = ~free & aligned & mask[:, 1:ANSWER].any(1) & (~shown.any(1) | always)
    mask[due, ANSWER] = False
    return mask


def greedy_tool(logits: Tensor) -> Tensor:
    """Return whether to look closer, which four regions share the chance of, and then the likeliest region."""
    shares = torch.softmax(logits, -1)
    zoom = shares[:, 1:ANSWER].sum(1) > shares[:, ANSWER]
    return torch.where(zoom & (shares[:, DETECT] == 0), shares[:, 1:ANSWER].argmax(1) + 1, shares.argmax(1))


class _Known:
    """Features that are there already, a row for each sample of the data set."""

    memory = None

    def __init__(self, features: Features, dataset: Dataset) -> None:
        self.features, self._dataset = features, dataset
        self.places: NDArray[np.int64] = np.zeros(0, np.int64)
        """Row of the features of each row that was seen last."""

    def see(self, obs: Obs, rows: NDArray[np.intp], info: dict[str, Any]) -> None:
        """Look up the samples of some rows."""
        self.places = np.array([self._dataset.find(name) for name in info["sample_id"][rows]], np.int64)


class _Shelf:
    """The pictures of a batch of groups and their features, which come as the members look."""

    def __init__(self, obs: Obs, rows: int, policy: LightPolicy) -> None:
        shapes = {"image": obs["image"].shape[1:], "face": obs["face"].shape[1:], "crop": obs["crop_0"].shape[1:]}
        self.memory = Memory(
            torch.zeros((rows, *shapes["image"]), dtype=torch.uint8),
            torch.zeros((rows, *shapes["face"]), dtype=torch.uint8),
            torch.zeros((rows, REGIONS, *shapes["crop"]), dtype=torch.uint8),
            torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.bool),
            torch.zeros((rows, REGIONS), dtype=torch.bool),
        )  # fmt: skip
        self._policy, self.features = policy, policy.encode(self.memory)
        self.places: NDArray[np.int64] = np.zeros(0, np.int64)
        """Row of the memory of each row that was seen last."""
        self._names: dict[str, int] = {}

    def see(self, obs: Obs, rows: NDArray[np.intp], info: dict[str, Any]) -> None:
        """Encode what is new in the observations of some rows."""
        image, face, crops, fine = self._policy.encode(self._take(obs, rows, info["group_id"][rows]))
        known = self.features
        self.features = known[0] + image, known[1] + face, known[2] + crops, known[3] + fine

    def _take(self, obs: Obs, rows: NDArray[np.intp], names: Any) -> Memory:
        """Take up what is new in the observations of some rows; return the memory with only that marked as there."""
        memory = self.memory
        before = [part.clone() for part in (memory.has_image, memory.has_face, memory.has_crop)]
        image, face, crop = (part.numpy() for part in (memory.has_image, memory.has_face, memory.has_crop))
        self.places = np.array([self._names.setdefault(name, len(self._names)) for name in names], np.int64)
        shown, regions = shown_regions(obs)[rows], crop_regions(obs)
        fresh = ~image[self.places] | ((obs["state"][rows] == State.ALIGNED) & ~face[self.places])
        fresh |= (shown & ~crop[self.places]).any(1)
        for k in np.flatnonzero(fresh):
            place, i = self.places[k], rows[k]
            if not image[place]:
                memory.image[place], image[place] = torch.from_numpy(obs["image"][i]), True
            if obs["state"][i] == State.ALIGNED and not face[place]:
                memory.face[place], face[place] = torch.from_numpy(obs["face"][i]), True
            for slot in np.flatnonzero(obs["crop_mask"][i]):
                region = regions[i, slot]
                if shown[k, region] and not crop[place, region]:
                    memory.crops[place, region] = torch.from_numpy(obs[f"crop_{slot}"][i])
                    crop[place, region] = True
        now = (memory.has_image, memory.has_face, memory.has_crop)
        return Memory(memory.image, memory.face, memory.crops, *(a & ~b for a, b in zip(now, before, strict=True)))


@torch.no_grad()
def encode_all(policy: LightPolicy, views: Views, chunk: int = 256) -> Features:
    """Encode every picture of a data set.

    Args:
        policy: in evaluation mode.
        views: the data set's pictures.
        chunk: samples at once.

    Returns:
        `Features`, a row for each sample; zero where there is no face.
    """
    parts = []
    for start in range(0, len(views), chunk):
        part = slice(start, start + chunk)
        image, face, crops = (torch.tensor(rows[part]) for rows in (views.image, views.face, views.crops))
        found = torch.tensor(views.found[part])
        there = torch.ones(len(image), dtype=torch.bool), found, found[:, None].expand(-1, REGIONS)
        parts.append(policy.encode(Memory(image, face, crops, *there)))
    image, face, crops, fine = (torch.cat(part) for part in zip(*parts, strict=True))
    return image, face, crops, fine


def crop_regions(obs: Obs) -> NDArray[np.intp]:
    """Return the region that each slot's crop shows, int (n, 4); of no meaning where there is no crop."""
    gaps = np.abs(obs["crop_boxes"][:, :, None] - obs["region_boxes"][:, None]).sum(-1)
    found: NDArray[np.intp] = gaps.argmin(-1)
    return found


def shown_regions(obs: Obs) -> NDArray[np.bool_]:
    """Return which regions' crops each row holds, bool (n, 4)."""
    gaps = np.abs(obs["crop_boxes"][:, :, None] - obs["region_boxes"][:, None]).sum(-1)
    same = (gaps < 1e-4) & (obs["crop_mask"][..., None] == 1)
    found: NDArray[np.bool_] = same.any(1)
    return found


def _batch(
    seen: tuple[Memory | None, Features], steps: list[dict[str, Any]], outcome: dict[tuple[str, int], float],
    rollouts: list[Rollout], scores: list[Scores],
) -> Batch:  # fmt: skip
    keys = [key for step in steps for key in step["keys"]]
    kept = torch.tensor([key in outcome for key in keys])
    advantage = torch.tensor([outcome.get(key, 0.0) for key in keys], dtype=torch.float32)

    def column(name: str) -> Tensor:
        return torch.cat([step[name] for step in steps])[kept]

    joined = [torch.cat(parts)[kept] for parts in zip(*(vars(s["decisions"]).values() for s in steps), strict=True)]
    return Batch(
        *seen, Decisions(*joined), column("tool"), column("emotion"), column("aus"), column("old"),
        advantage[kept], tuple(rollouts), tuple(scores),
    )  # fmt: skip
