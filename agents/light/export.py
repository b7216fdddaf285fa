"""Light policies as files that need no part of this package: ONNX and TorchScript."""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from actfer_env.agents.light.policy import ANSWER, REGIONS, LightPolicy, detail, to_input
from actfer_env.agents.light.record import PolicyRecord
from actfer_env.episode import State
from actfer_env.errors import DataError
from actfer_env.files import draft_file
from actfer_env.packages import needs

ExportFormat = Literal["onnx", "torchscript"]
INPUTS = ("image", "face", "crops", "crop_boxes", "crop_mask", "region_boxes", "state", "turns_left", "legal")
OUTPUTS = ("tool", "emotion", "aus")
_OPSET = 17


class ObservationPolicy(nn.Module):
    """A light policy as one function of the observation, without branches, so that it can be traced.

    `LightPolicy` encodes only the pictures that are there; this encodes all, and takes those that are there.

    Args:
        policy: The policy.
        max_turns: Turns of an episode in training.
    """

    def __init__(self, policy: LightPolicy, max_turns: int) -> None:
        super().__init__()
        self.policy, self.max_turns = policy, max_turns

    def forward(  # noqa: PLR0913, PLR0917  (each argument is an input of the exported file)
        self, image: Tensor, face: Tensor, crops: Tensor, crop_boxes: Tensor, crop_mask: Tensor, region_boxes: Tensor,
        state: Tensor, turns_left: Tensor, legal: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return the logits of tool (n, 6), emotion (n, 8) and Action Units (n, AUs); see `LightAgent.inputs`."""
        policy, slots = self.policy, crops.shape[1]

        # Pictures to features.
        raw = policy.image(nn.functional.avg_pool2d(to_input(image), 2))
        seen = (state == int(State.ALIGNED)).float()[:, None]
        whole = policy.face(to_input(face)) * seen
        fine = detail(face) * seen
        small = policy.crop(to_input(crops.flatten(0, 1)))

        # Each slot's crop belongs to the region whose box it has; of two with one box the first counts.
        gaps = (crop_boxes[:, :, None] - region_boxes[:, None]).abs().sum(-1)
        of = ((gaps < 1e-4) & (crop_mask[:, :, None] == 1)).float()
        of = of * (of.cumsum(1) < 1.5).float()
        parts = [
            (layer(small).unflatten(0, (-1, slots)) * of[:, :, place, None]).sum(1)
            for place, layer in enumerate(policy.regions)
        ]
        shown = of.sum(1)

        # Features and the episode's state to logits, as `LightPolicy.decide` does.
        view = torch.stack([(state == number).float() for number in range(3)], 1)
        flags = torch.cat([shown, view, (turns_left.float() / self.max_turns)[:, None]], 1)
        joined = torch.cat([raw, whole, *parts, flags], 1)
        hidden = policy.read(joined)
        tool = policy.gate(torch.cat([joined, fine], 1)).masked_fill(legal == 0, -torch.inf)
        return tool, policy.emotion(hidden), policy.aus(hidden)


def export_policy(policy: LightPolicy, record: PolicyRecord, path: Path, format: str) -> Path:
    """Write a policy as one file; see `LightAgent.export`."""
    if format not in get_args(ExportFormat):
        raise DataError(f"unknown format {format!r}: use one of {', '.join(get_args(ExportFormat))}")
    module = ObservationPolicy(deepcopy(policy), record.max_turns).eval().requires_grad_(False)
    config = json.dumps(record.to_dict())
    slots, n = max(record.max_zooms, 1), 2
    pictures = [torch.zeros((n, side, side, 3), dtype=torch.uint8) for side in (record.image_size, record.face_size)]
    crops = torch.zeros((n, slots, record.crop_size, record.crop_size, 3), dtype=torch.uint8)
    mask, legal = torch.zeros((n, slots), dtype=torch.int8), torch.ones((n, ANSWER + 1), dtype=torch.int8)
    numbers = [torch.zeros(n, dtype=torch.long), torch.full((n,), record.max_turns)]
    example = (*pictures, crops, torch.zeros(n, slots, 4), mask, torch.zeros(n, REGIONS, 4), *numbers, legal)
    with draft_file(path) as draft, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both ways are marked as old; they read and write without further packages
        if format == "torchscript":
            traced = torch.jit.trace(module, example)
            torch.jit.save(traced, str(draft), _extra_files={"config.json": config})
            return path
        with needs("export"):
            import onnx
        torch.onnx.export(
            module, example, str(draft), input_names=list(INPUTS), output_names=list(OUTPUTS), opset_version=_OPSET,
            dynamic_axes={name: {0: "n"} for name in (*INPUTS, *OUTPUTS)}, dynamo=False,
        )  # fmt: skip
        made = onnx.load(str(draft))
        onnx.helper.set_model_props(made, {"config": config})
        onnx.save(made, str(draft))
    return path
