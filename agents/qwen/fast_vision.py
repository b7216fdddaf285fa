"""Qwen3-VL's vision tower for small pictures: the same sums, computed in fewer and larger pieces.

transformers embeds patches by a 3-D convolution, for which torch has no fast CPU kernel, and attends picture by
picture. Patches do not overlap, so that the convolution is a matrix product; pictures of one batch can be padded and
attended at once: on a GPU, too, where otherwise every picture costs kernels of its own. Only the order of rounding
differs.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from actfer_env._moved import old_names

__getattr__ = old_names(__name__)

SHORT = 256
"""Patches of the largest picture that is padded on a GPU; chosen here."""


def use_fast_vision() -> None:
    """Replace both parts in transformers' classes; calling it again changes nothing.

    On a GPU only the attention is replaced, and only where pictures are short and attention is not flash attention.
    """
    from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen

    _replace(qwen.Qwen3VLVisionPatchEmbed, _embed, _on_cpu)
    _replace(qwen.Qwen3VLVisionAttention, functools.partial(_attend, qwen.apply_rotary_pos_emb_vision), _worth)


def _on_cpu(module: Any, hidden_states: Tensor, *_: Any, **__: Any) -> bool:
    return hidden_states.device.type == "cpu"


def _worth(module: Any, hidden_states: Tensor, cu_seqlens: Tensor, *_: Any, **__: Any) -> bool:
    if _on_cpu(module, hidden_states):
        return True
    return "flash" not in str(module.config._attn_implementation) and int(cu_seqlens.diff().max()) <= SHORT


def _replace(kind: Any, quick: Any, fits: Any) -> None:
    slow = kind.forward
    if hasattr(slow, "quickened"):
        return

    @functools.wraps(slow)
    def forward(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        work = quick if fits(self, hidden_states, *args, **kwargs) else slow
        return work(self, hidden_states, *args, **kwargs)

    forward.quickened = True  # type: ignore[attr-defined]
    kind.forward = forward


def _embed(module: Any, patches: Tensor) -> Tensor:
    weight = module.proj.weight.flatten(1)
    return functional.linear(patches.to(weight.dtype), weight, module.proj.bias)


def _attend(
    rotate: Any, module: Any, hidden_states: Tensor, cu_seqlens: Tensor,
    position_embeddings: Any = None, **_: Any,
) -> Tensor:  # fmt: skip
    """Attend within each picture: rows of all pictures side by side, short ones padded and masked."""
    count = len(hidden_states)
    query, key, value = module.qkv(hidden_states).reshape(count, 3, module.num_heads, -1).unbind(1)
    query, key = rotate(query, key, *position_embeddings)
    place, real = _places(cu_seqlens)
    query, key, value = (rows[place].transpose(1, 2) for rows in (query, key, value))
    scores = (query @ key.transpose(-1, -2)) * module.scaling
    found = scores.masked_fill(~real[:, None, None], -torch.inf).softmax(-1) @ value
    return module.proj(found.transpose(1, 2)[real].reshape(count, -1))


def _places(cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each picture's rows lie and which are real, int and bool (pictures, longest)."""
    starts, lengths = cu_seqlens[:-1].long(), cu_seqlens.diff()
    steps = torch.arange(int(lengths.max()), device=lengths.device)
    real = steps < lengths[:, None]
    return torch.where(real, starts[:, None] + steps, 0), real
