"""Playing a light policy in group environments, and what training keeps of it.

Encoders that stay as they are can encode a whole data set once (`encode_all`) for all who play it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

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
    Outputs,
    log_prob,
)
from actfer_env.data.views import PreparedImages
from actfer_env.envs.observations import crop_regions
from actfer_env.episode import State
from actfer_env.rewards import Scores
from actfer_env.rollout import Rollout
from actfer_env.wrappers.group_vec import GroupVectorEnv

Obs = dict[str, Any]
Zooming = Literal["free", "never", "once", "always"]
"""After the face is aligned: the gate decides; it never zooms; it zooms once, then decides; it zooms while it can."""


@dataclass
class RolloutBatch:
    """Finished groups: pictures, decisions and outcomes.

    Attributes:
        memory: Pictures, one row a group; None if the player knew their features.
        features: Features by the policy that played, one row a row of the memory, or a sample of the data set.
        decisions: M decisions.
        tool: int (m,), tool or region that was chosen.
        emotion: int (m,), emotion that an answer named.
        aus: bool (m, AUs), Action Units that an answer named.
        old: float (m,), log-probabilities when chosen, nats.
        advantage: float (m,), group-relative advantage of the decision's rollout.
        rollouts: N finished rollouts.
        scores: Scores of the rollouts, in their order.
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
    scores: Scores


@torch.no_grad()
def play_groups(
    venv: GroupVectorEnv,
    policy: LightPolicy,
    generator: torch.Generator | None,
    samples: list[int] | None = None,
    zooming: Sequence[Zooming] = (),
    known: Features | None = None,
) -> RolloutBatch:
    """Play until every group has ended once; groups that began anew meanwhile count if they have ended too.

    Args:
        venv: Groups side by side, of `ActFER-MultiDiscrete-v0`.
        policy: The policy, in evaluation mode; pictures are encoded once each.
        generator: Source of the sampling; None is greedy.
        samples: One for each group; drawn by the environment if left out.
        zooming: `Zooming` of each member of a group; free if left out.
        known: The features of the environment's data set by this policy's encoders, from `encode_all`; without them
            pictures are encoded as they come.
    """
    spaces: Any = venv.single_observation_space
    turns = int(spaces["turns_left"].n) - 1
    obs, info = venv.reset(options=None if samples is None else {"samples": samples})
    store = FeatureStore(obs, 4 * venv.num_groups, policy) if known is None else None
    modes = np.array(list(zooming) * venv.num_groups) if zooming else None
    first, ended = set(info["group_id"]), set[str]()
    seen: list[Decisions] = []
    done: list[tuple[Tensor, ...]] = []
    keys: list[tuple[str, int]] = []
    advantage: dict[tuple[str, int], float] = {}
    rollouts: list[Rollout] = []
    scores: list[Scores] = []
    while not first <= ended:
        # What the active members see: features of the pictures that were shown, and the state of the episode.
        rows = np.flatnonzero(info["active"])
        names, regions, shown_crops = info["group_id"][rows], *crop_regions(obs)
        if store is None:
            sample = torch.tensor([venv.dataset.find(name) for name in info["sample_id"][rows]])
        else:
            sample = store.add(obs, rows, names, regions[rows], shown_crops[rows])
        features = store.features if store is not None else cast(Features, known)
        shown = torch.from_numpy(shown_crops[rows])
        state = torch.from_numpy(obs["state"][rows].astype(np.int64))
        left = torch.from_numpy((obs["turns_left"][rows] / turns).astype(np.float32))
        mask = torch.from_numpy(obs["action_mask"][rows, :TOOLS].astype(bool))
        if modes is not None:
            mask = forced(mask, shown, state, modes[rows])
        seen.append(Decisions(sample, shown, state, left, mask))

        # What they do.
        out = policy.decide(features, seen[-1])
        tool, emotion, aus = choose_actions(out, generator)
        done.append((tool, emotion, aus, log_prob(out, tool, emotion, aus)))
        keys += zip(names, rows.tolist(), strict=True)
        actions = np.zeros((venv.num_envs, 2 + AUS), np.int64)
        actions[rows] = np.column_stack([tool, emotion, aus])
        obs, _, _, _, info = venv.step(actions)

        # What it was worth: the environment scores each group as its last member ends.
        if "rollout" in info:
            if venv.group_size > 1 or not scores:  # of groups of one it keeps the first scores alone
                scores.append(venv.pending[-1])
            for i in np.flatnonzero(info["_rollout"]).tolist():
                rollouts.append(info["rollout"][i])
                ended.add(rollouts[-1].group_id)
                advantage[rollouts[-1].group_id, i] = float(info["advantage"][i])

    kept = torch.tensor([key in advantage for key in keys])  # not those of groups that have not ended yet
    decisions = Decisions(*(torch.cat(parts)[kept] for parts in zip(*(vars(s).values() for s in seen), strict=True)))
    tool, emotion, aus, old = (torch.cat(parts)[kept] for parts in zip(*done, strict=True))
    return RolloutBatch(
        memory=None if store is None else store.memory, features=features, decisions=decisions, tool=tool,
        emotion=emotion, aus=aus, old=old, rollouts=tuple(rollouts), scores=Scores.joined(scores),
        advantage=torch.tensor([advantage[key] for key in keys if key in advantage], dtype=torch.float32),
    )  # fmt: skip


def forced(mask: Tensor, shown: Tensor, state: Tensor, zooming: NDArray[Any]) -> Tensor:
    """Restrict legal actions where zooming is not free: look first; then no zoom, or no answer while a zoom is due."""
    mask, aligned = mask.clone(), state == State.ALIGNED
    never, always, free = (torch.from_numpy(zooming == kind) for kind in ("never", "always", "free"))
    mask[~free & (state == State.RAW), ANSWER] = False
    mask[:, 1:ANSWER] &= ~(never & aligned)[:, None]
    due = ~free & aligned & mask[:, 1:ANSWER].any(1) & (~shown.any(1) | always)
    mask[due, ANSWER] = False
    return mask


def choose_actions(out: Outputs, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return tool, emotion and Action Units of m decisions, int (m,), int (m,) and bool (m, AUs).

    Args:
        out: The logits.
        generator: Source of the sampling; None is greedy: first whether to look closer, which four regions share the
            chance of, and then the likeliest region.
    """
    shares = torch.softmax(out.tool, -1)
    if generator is not None:
        tool = torch.multinomial(shares, 1, generator=generator)[:, 0]
        emotion = torch.multinomial(torch.softmax(out.emotion, -1), 1, generator=generator)[:, 0]
        return tool, emotion, torch.rand(out.aus.shape, generator=generator) < torch.sigmoid(out.aus)
    zoom = (shares[:, 1:ANSWER].sum(1) > shares[:, ANSWER]) & (shares[:, DETECT] == 0)
    tool = torch.where(zoom, shares[:, 1:ANSWER].argmax(1) + 1, shares.argmax(1))
    return tool, out.emotion.argmax(1), out.aus > 0


class FeatureStore:
    """Pictures of a batch of groups and their features, which come as the members look; each is encoded once.

    Args:
        obs: The first observations, for the pictures' sizes.
        rows: Number of groups that it has room for.
        policy: The policy, in evaluation mode.

    Attributes:
        memory: The pictures, one row a group.
        features: Features of the memory's rows; zero where nothing was shown.
    """

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
        self._places: dict[str, int] = {}

    def add(
        self, obs: Obs, rows: NDArray[np.intp], groups: Sequence[str], regions: NDArray[np.intp],
        shown: NDArray[np.bool_],
    ) -> Tensor:  # fmt: skip
        """Encode what is new in the observations of m members.

        Args:
            obs: All members' observations.
            rows: Rows of the m members.
            groups: Their group ids.
            regions: int (m, 4), the region that each slot's crop shows.
            shown: bool (m, 4), the regions that each of them has.

        Returns:
            The row of the memory of each, int (m,).
        """
        memory = self.memory
        before = [part.clone() for part in (memory.has_image, memory.has_face, memory.has_crop)]
        image, face, crop = (part.numpy() for part in (memory.has_image, memory.has_face, memory.has_crop))
        places = np.array([self._places.setdefault(name, len(self._places)) for name in groups], np.int64)
        fresh = ~image[places] | ((obs["state"][rows] == State.ALIGNED) & ~face[places])
        fresh |= (shown & ~crop[places]).any(1)
        for k in np.flatnonzero(fresh):
            place, i = places[k], rows[k]
            if not image[place]:
                memory.image[place], image[place] = torch.from_numpy(obs["image"][i]), True
            if obs["state"][i] == State.ALIGNED and not face[place]:
                memory.face[place], face[place] = torch.from_numpy(obs["face"][i]), True
            for slot in np.flatnonzero(obs["crop_mask"][i]):
                region = regions[k, slot]
                if shown[k, region] and not crop[place, region]:
                    memory.crops[place, region] = torch.from_numpy(obs[f"crop_{slot}"][i])
                    crop[place, region] = True
        now = (memory.has_image, memory.has_face, memory.has_crop)
        new = Memory(memory.image, memory.face, memory.crops, *(a & ~b for a, b in zip(now, before, strict=True)))
        image_new, face_new, crops_new, fine_new = self._policy.encode(new)
        known = self.features
        self.features = known[0] + image_new, known[1] + face_new, known[2] + crops_new, known[3] + fine_new
        return torch.from_numpy(places)


@torch.no_grad()
def encode_all(policy: LightPolicy, views: PreparedImages, chunk: int = 256) -> Features:
    """Encode every picture of a data set.

    Args:
        policy: The policy, in evaluation mode.
        views: The data set's pictures.
        chunk: Samples at once.

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
