"""The warm start: behaviour cloning on scripted trajectories of the three modes, the paper's SFT stage (ActFER 3.3).

Each face is zoomed or not at random, so that the start can do both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from actfer_env.agents.light.policy import (
    ANSWER,
    DETECT,
    REGIONS,
    TOOLS,
    Decisions,
    LightPolicy,
    Memory,
    PolicyConfig,
)
from actfer_env.bounds import bounded, check_fields
from actfer_env.data.views import PreparedImages
from actfer_env.episode import State
from actfer_env.progress import Watch


@dataclass(frozen=True)
class WarmStartConfig:
    """Constants of the warm start; chosen here on the validation split.

    Attributes:
        epochs: Passes over the training faces.
        batch: Faces in a step.
        rate: Peak learning rate of AdamW's one cycle.
        decay: Weight decay.
        cropped: Share of faces that are read through crops; some are, and some are not.
        zoomed: Share of scripts that zoom, which the gate takes over (ActFER's table 3: its SFT model zooms 32.6 %).
        sharp_only: Whether crops teach to read on good pictures alone, as zoom trajectories of a filtered SFT set
            would; the start then takes what it sees in magnified poor pictures for sharp, and can be misled by them.
        au_weight: Weight of the Action Units beside the emotion.
        face_dropout: Share of zoomed faces whose whole view is withheld, so that crops are learned to be read.
        least_gain: Gain of zooming good pictures, in accuracy, below which the start is trained again for as long (the
            prototype's rule was 0.1; here readers gain 0.06 over all good pictures).
        retries: Number of such trainings at most.
        shift: Pixels by which faces and crops are moved at random, each way, so that few photos are not learned by
            heart; 0 leaves them in place.
        image_dropout: Share of faces whose raw picture is withheld when they are read, likewise.
    """

    epochs: int = bounded(8, ge=1)
    batch: int = bounded(64, ge=1)
    rate: float = bounded(2e-3, ge=0)
    decay: float = bounded(0.02, ge=0)
    cropped: float = bounded(0.6, gt=0, lt=1)
    zoomed: float = bounded(0.326, ge=0, le=1)
    sharp_only: bool = True
    au_weight: float = bounded(2.0, ge=0)
    face_dropout: float = bounded(0.3, ge=0, le=1)
    least_gain: float = bounded(0.05)
    retries: int = bounded(1, ge=0)
    shift: int = bounded(0, ge=0, le=16)
    image_dropout: float = bounded(0.0, ge=0, le=1)

    def __post_init__(self) -> None:
        check_fields(self)


def memory_of(views: PreparedImages, index: np.ndarray) -> Memory:
    """Return the pictures of some samples as a policy takes them."""
    index = np.asarray(index)
    image, face, crops, found = (
        torch.from_numpy(np.array(part[index])) for part in (views.image, views.face, views.crops, views.found)
    )
    shown = found[:, None].expand(-1, REGIONS).clone()
    return Memory(image, face, crops, torch.ones_like(found), found, shown)


def decisions_of(found: Tensor, shown: Tensor, sample: Tensor, max_turns: int = 6) -> Decisions:
    """Return the decision of each sample after some of its crops were shown."""
    state = torch.where(found[sample], int(State.ALIGNED), int(State.NO_FACE))
    shown = shown & found[sample][:, None]
    mask = torch.zeros(len(sample), TOOLS, dtype=torch.bool)
    mask[:, ANSWER] = True
    mask[:, 1 : REGIONS + 1] = ~shown & found[sample][:, None]
    left = (max_turns - 1 - shown.sum(1)).float() / max_turns
    return Decisions(sample, shown, state, left, mask)


def first_decisions(n: int, max_turns: int = 6) -> Decisions:
    """Return the decisions on raw pictures: detect, or answer without looking."""
    mask = torch.zeros(n, TOOLS, dtype=torch.bool)
    mask[:, [DETECT, ANSWER]] = True
    shown = torch.zeros(n, REGIONS, dtype=torch.bool)
    return Decisions(torch.arange(n), shown, torch.zeros(n, dtype=torch.long), torch.full((n,), 1.0), mask)


def warm_start(
    views: PreparedImages, held_out: PreparedImages, config: WarmStartConfig, seed: int,
    sizes: PolicyConfig | None = None, watch: Watch | None = None, again: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> tuple[LightPolicy, dict[str, float]]:  # fmt: skip
    """Train a policy on scripted trajectories.

    Args:
        views: Pictures of the training split.
        held_out: Pictures of the validation split, for the rule on the gain of zooming.
        config: The constants.
        seed: Seed of weights and order.
        sizes: Sizes of the policy.
        watch: Called after each epoch with "warm start" and its mean loss.
        again: int (m,), samples that come once more in each pass, for the balance of emotions.
        weights: float32 (8,), weight of each emotion in the loss.

    Returns:
        The policy, and what it can do: accuracy with and without zoom on good and on poor pictures.
    """
    torch.manual_seed(seed)
    sides = views.image.shape[1], views.face.shape[1], views.crops.shape[2]
    policy, rng = LightPolicy(sizes, sides), np.random.default_rng(seed)
    rows = np.arange(len(views)) if again is None else np.concatenate([np.arange(len(views)), again])
    weigh = None if weights is None else torch.from_numpy(weights)
    if not views.coded.any():
        policy.leave_aus()
    for attempt in range(config.retries + 1):
        policy.train()
        steps = config.epochs * -(-len(rows) // config.batch)
        optimizer = torch.optim.AdamW(policy.parameters(), config.rate, weight_decay=config.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.rate, steps, pct_start=0.15)
        for epoch in range(config.epochs):
            order, total = rows[rng.permutation(len(rows))], 0.0
            for start in range(0, len(order), config.batch):
                batch = np.sort(order[start : start + config.batch])
                loss = _loss(policy, views, batch, config, rng, weigh)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(batch)
            if watch is not None:
                watch("warm start", epoch + 1, config.epochs, {"loss": total / len(rows)})
        skill = zoom_skill(policy, held_out)
        skill["attempts"] = attempt + 1
        if skill["good_always"] - skill["good_never"] > config.least_gain:
            break
    return policy.eval(), skill


def _loss(
    policy: LightPolicy, views: PreparedImages, batch: np.ndarray, config: WarmStartConfig, rng: np.random.Generator,
    weigh: Tensor | None,
) -> Tensor:  # fmt: skip
    """Return the cloning loss: detect first, then zoom or answer as the script does, and read right in either case."""
    memory = _varied(memory_of(views, batch), rng, config.shift)
    n = len(batch)
    shown, wanted, weight = _script(n, config, rng)
    memory.has_crop &= shown
    image, face, crops, fine = policy.encode(memory)
    kept = ~(memory.has_crop.any(1) & torch.from_numpy(rng.random(n) < config.face_dropout))
    if config.image_dropout:
        image = image * torch.from_numpy(rng.random(n) >= config.image_dropout)[:, None]
    features = image, face * kept[:, None], crops, fine
    first = policy.decide(features, first_decisions(n))
    decisions = decisions_of(memory.has_face, shown, torch.arange(n))
    out = policy.decide(features, decisions)
    wanted = torch.where(decisions.mask.gather(1, wanted[:, None])[:, 0], wanted, ANSWER)
    tool = nn.functional.cross_entropy(first.tool, torch.full((n,), DETECT))
    tool = tool + (weight * nn.functional.cross_entropy(out.tool, wanted, reduction="none")).mean()
    label = torch.from_numpy(np.array(views.emotion[batch]))
    units = torch.from_numpy(np.array(views.aus[batch])).float()
    seen = decisions.shown.any(1)
    taught = ~seen | torch.from_numpy(np.array(views.good[batch])) | (not config.sharp_only)
    coded, bits = taught & torch.from_numpy(np.array(views.coded[batch])), torch.zeros(())
    if coded.any():
        bits = _units(out.aus[coded], units[coded])
    if (seen & coded).any():
        near = policy.near_aus((features[2] * decisions.shown[..., None]).flatten(1)[seen & coded])
        bits = bits + _units(near, units[seen & coded])
    if not taught.any():
        return 0.1 * tool
    emotion = nn.functional.cross_entropy(out.emotion[taught], label[taught], weigh)
    return emotion + 0.1 * tool + config.au_weight * bits


def _units(logits: Tensor, units: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, units)


def _script(n: int, config: WarmStartConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw how far each trajectory has come: crops that are shown, the scripted next move, and the move's weight.

    Readers need other shares than the gate: ends of trajectories and crops are drawn more often than scripts have them.
    The weights undo that, so that every move of a script counts once.
    """
    zooms = rng.random(n) < config.cropped
    count = np.where(zooms, np.minimum(rng.integers(1, 2 * REGIONS, n), REGIONS), 0)
    order = rng.permuted(np.tile(np.arange(REGIONS), (n, 1)), axis=1)
    reached = np.where(rng.random(n) < 0.5, count, (rng.random(n) * (count + 1)).astype(int))
    shown = np.zeros((n, REGIONS), bool)
    for row in range(n):
        shown[row, order[row, : reached[row]]] = True
    following = order[np.arange(n), np.minimum(reached, REGIONS - 1)] + 1
    moves = np.where(reached < count, following, ANSWER)
    drawn = 0.5 / (count + 1) + 0.5 * (reached == count)
    share = np.where(zooms, config.zoomed / config.cropped, (1 - config.zoomed) / (1 - config.cropped))
    return torch.from_numpy(shown), torch.from_numpy(moves), torch.from_numpy((share / drawn).astype(np.float32))


def _varied(memory: Memory, rng: np.random.Generator, shift: int = 0) -> Memory:
    """Mirror half of the faces and crops, move them, and vary exposure; the raw picture is left alone."""
    n = len(memory.image)
    flip = torch.from_numpy(rng.random(n) < 0.5)
    gain = torch.from_numpy(rng.uniform(0.85, 1.18, (n, 1, 1, 1)).astype(np.float32))
    face = torch.where(flip[:, None, None, None], memory.face.flip(2), memory.face)
    crops = torch.where(flip[:, None, None, None, None], memory.crops.flip(3), memory.crops)
    face = (face * gain).clamp(0, 255).to(torch.uint8)
    crops = (crops * gain[:, None]).clamp(0, 255).to(torch.uint8)
    if shift:
        face, crops = _moved(face, shift, rng), _moved(crops.flatten(0, 1), shift, rng).view_as(crops)
    return Memory(memory.image, face, crops, memory.has_image, memory.has_face, memory.has_crop)


def _moved(pictures: Tensor, shift: int, rng: np.random.Generator) -> Tensor:
    """Move each picture (n, h, w, 3) by up to `shift` pixels along both axes; its border is repeated."""
    n, height, width, _ = pictures.shape
    down, right = torch.from_numpy(rng.integers(-shift, shift + 1, (2, n)))
    rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) + right[:, None]).clamp(0, width - 1)
    return pictures[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


@torch.no_grad()
def read_emotions(policy: LightPolicy, views: PreparedImages, shown: np.ndarray, batch: int = 256) -> np.ndarray:
    """Return the greedy emotions (n,) after the crops `shown`, bool (n, 4), of every sample."""
    policy.eval()
    parts = []
    for start in range(0, len(views), batch):
        index = np.arange(start, min(start + batch, len(views)))
        memory = memory_of(views, index)
        chosen = torch.from_numpy(shown[index])
        out = policy(memory, decisions_of(memory.has_face, chosen, torch.arange(len(index))))
        parts.append(out.emotion.argmax(1).numpy())
    return np.concatenate(parts)


def zoom_skill(policy: LightPolicy, views: PreparedImages) -> dict[str, float]:
    """Return accuracies with all crops and with none, on good and on poor pictures whose face was found."""
    skill = {}
    for name, value in (("never", False), ("always", True)):
        right = read_emotions(policy, views, np.full((len(views), REGIONS), value)) == views.emotion
        for kind, part in (("good", views.good), ("poor", ~views.good)):
            chosen = part & views.found
            skill[f"{kind}_{name}"] = float(right[chosen].mean()) if chosen.any() else 0.0
    return skill
