"""A light policy for `ActFER-MultiDiscrete-v0`: it sees pictures and the episode's state, and nothing else.

Pictures are encoded once each; a decision joins what has been seen so far. Whether a zoom pays can be told from the
pixels alone: quality, sample and label are no inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.episode import State
from actfer_env.errors import SettingsError

REGIONS, EMOTIONS, AUS = len(facs.REGIONS), len(facs.EMOTIONS), len(facs.CORE_AUS)
TOOLS = REGIONS + 2
DETECT, ANSWER = 0, TOOLS - 1
_FLAGS = REGIONS + 3 + 1

Features = tuple[Tensor, Tensor, Tensor, Tensor]
"""Features, float32, of raw pictures (n, p), faces (n, p), crops (n, 4, r), and the faces' detail (n, `DETAIL`)."""
_LEVELS, _CELLS = 2, 8
DETAIL = _LEVELS * _CELLS * _CELLS


@dataclass(frozen=True)
class PolicyConfig:
    """Sizes; chosen here for two cores.

    Attributes:
        channels: Channels of the first convolution.
        picture: Features of the face and of the raw picture.
        region: Features of each crop.
        hidden: Width of the heads.
        dropout: Share of the reading heads' units that is dropped, during the warm start.
    """

    channels: int = bounded(24, ge=1)
    picture: int = bounded(96, ge=1)
    region: int = bounded(48, ge=1)
    hidden: int = bounded(128, ge=1)
    dropout: float = bounded(0.2, ge=0, lt=1)

    def __post_init__(self) -> None:
        check_fields(self)


Sides: TypeAlias = tuple[int, int, int]
"""Sides of the raw picture, the aligned face and the crops, pixels."""
SIDES: Sides = (96, 64, 48)
"""Those of the environments."""


@dataclass
class Memory:
    """The pictures of n episodes' samples, and what has been shown of them.

    Attributes:
        image: uint8 (n, 96, 96, 3), or of other `Sides`.
        face: uint8 (n, 64, 64, 3), likewise.
        crops: uint8 (n, 4, 48, 48, 3), likewise.
        has_image: bool (n,), rows in use.
        has_face: bool (n,).
        has_crop: bool (n, 4), of any member.
    """

    image: Tensor
    face: Tensor
    crops: Tensor
    has_image: Tensor
    has_face: Tensor
    has_crop: Tensor


@dataclass
class Decisions:
    """m decisions.

    Attributes:
        sample: int (m,), row of the memory.
        shown: bool (m, 4), crops that this member has.
        state: int (m,), an `episode.State`: RAW, ALIGNED or NO_FACE.
        turns_left: float (m,), as a share of the turns.
        mask: bool (m, 6), legal tools and regions.
    """

    sample: Tensor
    shown: Tensor
    state: Tensor
    turns_left: Tensor
    mask: Tensor

    def take(self, index: Tensor) -> Decisions:
        """Return some of them."""
        return Decisions(*(value[index] for value in vars(self).values()))


@dataclass
class Outputs:
    """The heads' logits: tool (m, 6) with illegal ones at -inf, emotion (m, 8), Action Units (m, AUs)."""

    tool: Tensor
    emotion: Tensor
    aus: Tensor


def check_sides(sides: Sides) -> None:
    """Refuse sides of pictures that the encoders cannot halve; see `LightPolicy`.

    Raises:
        SettingsError: names the first.
    """
    for name, side, step in zip(("image_size", "face_size", "crop_size"), sides, (16, 8, 8), strict=True):
        if side % step or side < 2 * step:
            raise SettingsError(f"{name} must be a multiple of {step} and at least {2 * step} for the light policy, "
                                f"got {side}")  # fmt: skip


class LightPolicy(nn.Module):
    """Encoders of the raw picture, the face and the crops; a gate (tools and regions), and heads that read.

    Args:
        config: Sizes.
        sides: Sides of the raw picture, the face and the crops in pixels: multiples of 16, 8 and 8.

    Raises:
        SettingsError: a side is no such multiple, or below 32, 16 and 16.
    """

    def __init__(self, config: PolicyConfig | None = None, sides: Sides = SIDES) -> None:
        super().__init__()
        self.config = c = config or PolicyConfig()
        check_sides(sides)
        raw, face, crop = sides
        self.image, self.face = encoder(c.channels // 2, raw // 2, c.picture), encoder(c.channels, face, c.picture)
        self.crop = encoder(c.channels + c.channels // 3, crop, 2 * c.region)
        self.regions = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * c.region, c.region), nn.ReLU()) for _ in range(REGIONS)
        )
        width = 2 * c.picture + REGIONS * c.region + _FLAGS
        self.gate = nn.Sequential(nn.Linear(width + DETAIL, c.hidden), nn.ReLU(), nn.Linear(c.hidden, TOOLS))
        self.read = nn.Sequential(nn.Linear(width, c.hidden), nn.ReLU(), nn.Dropout(c.dropout))
        self.emotion, self.aus = nn.Linear(c.hidden, EMOTIONS), nn.Linear(c.hidden, AUS)
        self.near_aus = nn.Linear(REGIONS * c.region, AUS)
        """Reads Action Units from crops alone; it only teaches the encoder, in the warm start."""

    def leave_aus(self) -> None:
        """Let the head of Action Units rest: it names none and does not learn, where none are annotated."""
        with torch.no_grad():
            self.aus.weight.zero_()
            self.aus.bias.fill_(-30.0)  # the chance of a unit is 1e-13
        self.aus.requires_grad_(False)

    def encode(self, memory: Memory) -> Features:
        """Encode every picture that is there, once.

        Returns:
            `Features`; zero where there is no picture.
        """
        n, c = len(memory.image), self.config
        image, face, fine = torch.zeros(n, c.picture), torch.zeros(n, c.picture), torch.zeros(n, DETAIL)
        if memory.has_image.any():
            halved = nn.functional.avg_pool2d(to_input(memory.image[memory.has_image]), 2)
            image = image.index_put((memory.has_image,), self.image(halved).float())
        if memory.has_face.any():
            face = face.index_put((memory.has_face,), self.face(to_input(memory.face[memory.has_face])).float())
            fine[memory.has_face] = detail(memory.face[memory.has_face])
        crops = torch.zeros(n, REGIONS, c.region)
        for place, layer in enumerate(self.regions):
            there = memory.has_crop[:, place]
            if there.any():
                found = layer(self.crop(to_input(memory.crops[there, place]))).float()
                crops[:, place] = crops[:, place].index_put((there,), found)
        return image, face, crops, fine

    def forward(self, memory: Memory, decisions: Decisions) -> Outputs:
        """Return the logits of every decision."""
        return self.decide(self.encode(memory), decisions)

    def decide(self, features: Features, decisions: Decisions) -> Outputs:
        """Return the logits of decisions over encoded pictures."""
        image, face, crops, fine = (part[decisions.sample] for part in features)
        seen = (decisions.state == State.ALIGNED)[:, None]
        crops = (crops * decisions.shown[..., None]).flatten(1)
        flags = torch.cat([
            decisions.shown.float(), nn.functional.one_hot(decisions.state, 3).float(), decisions.turns_left[:, None],
        ], dim=1)  # fmt: skip
        joined = torch.cat([image, face * seen, crops, flags], dim=1)
        hidden = self.read(joined)
        tool = self.gate(torch.cat([joined, fine * seen], dim=1)).masked_fill(~decisions.mask, -torch.inf)
        return Outputs(tool, self.emotion(hidden), self.aus(hidden))

    def encoders(self) -> nn.ModuleList:
        """Return what turns pictures into features."""
        return nn.ModuleList([self.image, self.face, self.crop, self.regions])

    def gate_parameters(self) -> list[nn.Parameter]:
        """Parameters of the gate alone."""
        return list(self.gate.parameters())

    def other_parameters(self) -> list[nn.Parameter]:
        """All other parameters."""
        own = {id(parameter) for parameter in self.gate.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]


def encoder(channels: int, side: int, features: int) -> nn.Sequential:
    """Return a small convolutional encoder of square pictures: (n, 3, side, side) -> (n, features).

    The batch normalisation learns its statistics in the warm start; reinforcement learning leaves them alone.
    """
    c, last = channels, side // 8
    return nn.Sequential(
        nn.PixelUnshuffle(2), *_block(12, c, 1), *_block(c, 2 * c, 2), *_block(2 * c, 2 * c, 2),
        nn.Conv2d(2 * c, c, 1), nn.ReLU(), nn.Flatten(), nn.Linear(c * last * last, features), nn.ReLU(),
    )  # fmt: skip


def _block(inside: int, outside: int, stride: int) -> tuple[nn.Module, ...]:
    return (nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())


def to_input(pictures: Tensor) -> Tensor:
    """Turn uint8 (n, h, w, 3) into float (n, 3, h, w) around zero, channels last in memory."""
    return pictures.permute(0, 3, 1, 2).float().div(64).sub(2)


def detail(pictures: Tensor) -> Tensor:
    """Return how much fine structure pictures show: log contrast of a Laplacian pyramid's bands, cell by cell.

    It is the usual measure of focus. The gate gets it beside the encoders' features, which need not keep it.

    Args:
        pictures: uint8 (n, h, w, 3).

    Returns:
        (n, `DETAIL`), about zero on average with a spread of about one (scaled by figures of the training split).
    """
    grey, bands = pictures.float().div(255).mean(3)[:, None], []
    for _ in range(_LEVELS):
        half = nn.functional.avg_pool2d(grey, 2)
        low = nn.functional.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
        bands.append(nn.functional.adaptive_avg_pool2d((grey - low).abs(), _CELLS).flatten(1))
        grey = half
    return (torch.cat(bands, 1).add(1e-3).log() + 4.0) / 0.7


def log_prob(out: Outputs, tool: Tensor, emotion: Tensor, aus: Tensor) -> Tensor:
    """Return the log-probability (m,) of actions: the tool's, and of an answer the emotion's and the AU bits' too."""
    chosen = torch.log_softmax(out.tool, -1).gather(1, tool[:, None])[:, 0]
    label = torch.log_softmax(out.emotion, -1).gather(1, emotion[:, None])[:, 0]
    bits = -nn.functional.binary_cross_entropy_with_logits(out.aus, aus.float(), reduction="none").sum(1)
    return chosen + (tool == ANSWER) * (label + bits)


def entropy(out: Outputs) -> Tensor:
    """Return the entropy of the tool head (m,), nats."""
    logs = torch.log_softmax(out.tool, -1)
    return -(logs.exp() * logs.masked_fill(torch.isinf(logs), 0.0)).sum(1)


def divergence(out: Outputs, old: Outputs, tool: Tensor) -> Tensor:
    """Return the exact KL divergence (m,) from the policy to an older one: all heads where the action is an answer."""
    new_tool, old_tool = (torch.log_softmax(each.tool, -1) for each in (out, old))
    gap = (new_tool - old_tool).masked_fill(torch.isinf(new_tool), 0.0)
    value = (new_tool.exp() * gap).sum(1)
    new_label, old_label = (torch.log_softmax(each.emotion, -1) for each in (out, old))
    label = (new_label.exp() * (new_label - old_label)).sum(1)
    p, q = torch.sigmoid(out.aus), torch.sigmoid(old.aus)
    bits = (p * (_log(p) - _log(q)) + (1 - p) * (_log(1 - p) - _log(1 - q))).sum(1)
    return value + (tool == ANSWER) * (label + bits)


def _log(share: Tensor) -> Tensor:
    return share.clamp_min(1e-6).log()
