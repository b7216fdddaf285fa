"""A rollout for verl by transformers alone: real sampling, several sessions in a batch; for small models."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
import torch
from verl.plugin.platform import get_platform
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

from actfer_env.agents.qwen.agent import QwenVLAgent
from actfer_env.agents.qwen.conversation import TokenCodec
from actfer_env.agents.qwen.fast_vision import use_fast_vision

GATHER_SECONDS = 0.2
"""Time that requests wait for another one to share their batch; chosen here."""
MAX_BATCH = 128
"""Sessions of a batch; chosen here."""


@dataclass(eq=False)
class _Request:
    """One turn to be written; has what `QwenVLAgent.collate` reads."""

    ids: list[int]
    pixels: list[Any]
    grids: list[tuple[int, ...]]
    params: Mapping[str, Any]
    done: asyncio.Future[TokenOutput] = field(repr=False)

    @property
    def key(self) -> tuple[float, float]:
        """Settings that requests of one batch must share: temperature and top_p."""
        return float(self.params.get("temperature", 1.0)), float(self.params.get("top_p", 1.0))

    @property
    def limit(self) -> int:
        return int(self.params.get("max_tokens") or self.params.get("max_new_tokens") or 256)


class HFServer:
    """The model that writes turns, in a process of its own; on the GPU that this process sees, or else on the CPU.

    Args:
        path: The model's folder.
        seed: Random seed of sampling.
        sleeps: Whether requests are refused while it sleeps; verl's ``rollout.free_cache_engine``, without which verl
            puts a server to sleep and never wakes it.
    """

    def __init__(self, path: str, seed: int = 0, sleeps: bool = True) -> None:
        self.sleeps = sleeps
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        use_fast_vision()
        self.agent = QwenVLAgent(path, dtype="float32")
        self.codec: TokenCodec = self.agent.codec
        self.step, self.asleep = 0, False
        self.waiting: list[_Request] = []
        self.worker: asyncio.Task[None] | None = None

    async def wake_up(self, tags: Any = None) -> None:
        """Accept requests."""
        self.asleep = False

    async def sleep(self) -> None:
        """Refuse requests while weights change."""
        self.asleep = self.sleeps

    async def nothing(self, *_: Any, **__: Any) -> None:
        """Do what a server without key-value cache or profiler has to."""

    clear_kv_cache = release_kv_cache = resume_kv_cache = nothing
    start_profile = stop_profile = resume_generation = nothing

    async def abort_all_requests(self, reject_request: bool = False) -> dict[str, Any]:
        """Return that nothing was aborted: a batch ends by itself."""
        return {}

    async def load_weights(self, weights: Mapping[str, Any], global_steps: int | None = None) -> None:
        """Take over the trainer's weights.

        Raises:
            RuntimeError: a weight is unknown or missing.
        """
        missing, unexpected = self.agent.model.load_state_dict(weights, strict=False)
        tied = set(getattr(self.agent.model, "all_tied_weights_keys", None) or ())
        if unexpected or set(missing) - tied:
            raise RuntimeError(f"the trainer's weights do not fit: {(unexpected or missing)[0]}")
        self.step = self.step if global_steps is None else global_steps

    async def generate(
        self, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any], image_data: Any = None, **_: Any
    ) -> TokenOutput:
        """Write one turn.

        Raises:
            RuntimeError: the server sleeps.
        """
        if self.asleep:
            raise RuntimeError("the rollout server sleeps: wake it before generating")
        pixels, grids = self.codec.pictures([np.asarray(image.convert("RGB")) for image in image_data or []])
        request = _Request(list(prompt_ids), pixels, grids, sampling_params, asyncio.get_running_loop().create_future())
        self.waiting.append(request)
        if self.worker is None or self.worker.done():
            self.worker = asyncio.create_task(self._serve())
        return await request.done

    async def _serve(self) -> None:
        while self.waiting:
            await self._gather()
            key = self.waiting[0].key
            batch = [request for request in self.waiting if request.key == key][:MAX_BATCH]
            self.waiting = [request for request in self.waiting if request not in batch]
            try:
                made = await asyncio.to_thread(self._write, batch, key)
                for request, (ids, logs) in zip(batch, made, strict=True):
                    request.done.set_result(self._output(ids, logs))
            except Exception as error:  # every waiting session learns why, and none waits for ever
                for request in batch:
                    if not request.done.done():
                        request.done.set_exception(RuntimeError(f"generation failed: {error}"))

    async def _gather(self) -> None:
        """Wait until requests fill a batch or no longer come: few large batches cost less than many small ones."""
        before = 0
        while before < len(self.waiting) < MAX_BATCH:
            before = len(self.waiting)
            await asyncio.sleep(GATHER_SECONDS)

    def _output(self, ids: list[int], logs: list[float]) -> TokenOutput:
        fields = {"global_steps": self.step}
        return TokenOutput(token_ids=ids, log_probs=logs, stop_reason="completed", num_preempted=0, extra_fields=fields)

    @torch.no_grad()
    def _write(self, batch: list[_Request], key: tuple[float, float]) -> list[tuple[list[int], list[float]]]:
        agent, (temperature, top_p) = self.agent, key
        inputs = agent.collate(batch)  # type: ignore[arg-type]
        settings = {**agent.generation_settings(), "max_new_tokens": max(request.limit for request in batch)}
        if temperature > 0:
            settings |= {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        out = agent.model.generate(**inputs, **settings, return_dict_in_generate=True, output_logits=True)
        tails = out.sequences[:, inputs["input_ids"].shape[1] :]
        logits = torch.stack(out.logits, 1).float()
        logs = torch.log_softmax(logits / (temperature or 1.0), -1).gather(-1, tails[..., None])[..., 0]
        found = []
        for request, tail, log in zip(batch, tails.tolist(), logs.tolist(), strict=True):
            ids = self.codec.cut(tail)[: request.limit]
            found.append((ids, log[: len(ids)]))
        return found


class HFReplica(RolloutReplica):
    """Starts one `HFServer`."""

    async def launch_servers(self) -> None:
        """Start the server as a named actor."""
        path = getattr(self.model_config, "local_path", None) or self.model_config["path"]
        options = {"num_cpus": 0, "max_concurrency": 256, "runtime_env": {"env_vars": await self._environment()}}
        build = ray.remote(HFServer).options(name=_name(self.replica_rank), **options)
        server = build.remote(path, self.replica_rank, bool(self.config.free_cache_engine))
        await server.nothing.remote()
        self.servers, self._server_handle = [server], server
        self._server_address = f"hf://{self.replica_rank}"

    async def _environment(self) -> dict[str, str]:
        """Return what makes a server see the GPU of its trainer; Ray would hide all GPUs from it."""
        platform = get_platform()
        if platform.device_name == "cpu":
            return {}
        gpu = await self.workers[0].__ray_call__.remote(_first_gpu)
        return {**dict.fromkeys(platform.ray_noset_envvars(), "1"), platform.visible_devices_envvar(): gpu}


class HFWeights(BaseRollout):
    """The trainer's side: hands its weights to the server."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, *_: Any, **__: Any) -> None:
        super().__init__(config, model_config, device_mesh)
        self._server: Any = None

    @property
    def server(self) -> Any:
        """The server's handle."""
        if self._server is None:
            self._server = ray.get_actor(_name(int(os.environ["RANK"])))
        return self._server

    async def resume(self, tags: list[str]) -> None:
        """Let the server accept requests."""
        await self.server.wake_up.remote(tags=tags)

    async def release(self) -> None:
        """Let the server refuse requests."""
        await self.server.sleep.remote()

    @torch.no_grad()
    async def update_weights(
        self,
        weights: Generator[tuple[str, torch.Tensor], None, None],
        wire_format: str = "named_tensors",
        global_steps: int | None = None,
        **_: Any,
    ) -> None:
        """Send every weight as float32."""
        sent = {name: tensor.detach().to("cpu", torch.float32).clone() for name, tensor in weights}
        await self.server.load_weights.remote(sent, global_steps=global_steps)


def _first_gpu(worker: Any) -> str:
    """Return the number of the GPU that Ray gave to the calling worker."""
    return str(ray.get_runtime_context().get_accelerator_ids()[get_platform().ray_resource_name()][0])


def _name(rank: int) -> str:
    return f"actfer_hf_server_{rank}"
