"""A development mode for machines without GPU: a CPU platform and a rollout by transformers, from outside verl.

The rollout also runs on a GPU, for models that are not worth an engine.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import types
from collections.abc import Iterator
from typing import Any


def install() -> None:
    """Register the platform "cpu", and mend what verl builds wrongly for it."""
    from actfer_env.agents.qwen.torchvision_guard import guard

    guard()
    _register_platform()
    _mend_process_group()
    _mend_offloading()


def _device_module() -> types.ModuleType:
    """Return `torch.cpu` with the calls that verl expects of a GPU's module; memory is that of the process."""
    import torch

    def memory(*_: Any) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    module = types.ModuleType("actfer_torch_cpu")
    module.__dict__.update({name: value for name, value in vars(torch.cpu).items() if not name.startswith("__")})
    names = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")
    module.__dict__.update(dict.fromkeys(names, memory))
    idle = ("empty_cache", "synchronize", "reset_peak_memory_stats", "set_device", "ipc_collect",
            "manual_seed", "manual_seed_all")  # fmt: skip
    module.__dict__.update(dict.fromkeys(idle, lambda *_, **__: None))
    module.__dict__.update(
        mem_get_info=lambda *_: (2**34, 2**34), get_rng_state=lambda *_: torch.get_rng_state(),
        set_rng_state=lambda state, *_: torch.set_rng_state(state), current_device=lambda: "cpu",
        device_count=lambda: 1, is_available=lambda: False, is_initialized=lambda: True,
        get_device_name=lambda *_: "cpu",
    )  # fmt: skip
    return module


def _register_platform() -> None:
    import torch
    from verl.plugin.platform import PlatformBase, PlatformRegistry

    @contextlib.contextmanager
    def span(self: Any, msg: str) -> Iterator[None]:
        yield

    def constant(value: Any) -> Any:
        return lambda self, *_, **__: value

    module = _device_module()
    values: dict[str, Any] = {
        "is_available": True, "is_platform_available": False, "current_device": "cpu", "device_count": 1,
        "get_device_capability": (None, None), "communication_backend_name": "gloo",
        "visible_devices_envvar": "CUDA_VISIBLE_DEVICES", "ray_noset_envvars": [
            "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"],
        "ray_resource_name": "GPU", "is_ipc_supported": False, "get_collective_module": None, "cudart": None,
        **dict.fromkeys(("set_device", "synchronize", "set_allocator_settings", "empty_cache", "profiler_start",
                         "profiler_stop")),
    }  # fmt: skip
    members: dict[str, Any] = {name: constant(value) for name, value in values.items()}
    members |= {name: property(constant("cpu")) for name in ("device_name", "vendor_name")}
    members |= {name: lambda self, seed: torch.manual_seed(seed) for name in ("manual_seed", "manual_seed_all")}
    members |= {"device_module": property(constant(module)), "nvtx_range": span,
                "ray_resource_options": lambda self, count: {"num_gpus": count}}  # fmt: skip
    PlatformRegistry.register(platform="cpu")(type("CPUPlatform", (PlatformBase,), members))


def register_rollout() -> None:
    """Register the rollout "hf", of any platform."""
    from verl.workers.rollout.base import _ROLLOUT_REGISTRY
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    def load() -> Any:
        from actfer_env.verl_plugin.hf_rollout import HFReplica

        return HFReplica

    _ROLLOUT_REGISTRY["hf", "async"] = "actfer_env.verl_plugin.hf_rollout.HFWeights"
    RolloutReplicaRegistry.register("hf", load)


def _mend_process_group() -> None:
    """Name the backend: verl would ask for "cpu:gloo,cpu:gloo", which torch refuses."""
    import verl.workers.engine_workers as workers
    from verl.utils import distributed

    original = distributed.initialize_global_process_group_ray

    @functools.wraps(original)
    def named(timeout_second: int | None = None, backend: str | None = None) -> Any:
        return original(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    distributed.initialize_global_process_group_ray = named
    workers.initialize_global_process_group_ray = named


def _mend_offloading() -> None:
    """Leave a reference model where it is: verl would pin its memory, for which there must be an accelerator."""
    from torch.distributed.fsdp import OffloadPolicy
    from verl.workers.engine.fsdp import transformer_impl

    transformer_impl.CPUOffloadPolicy = lambda pin_memory=True: OffloadPolicy()
