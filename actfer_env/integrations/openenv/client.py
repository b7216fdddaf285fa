"""`FaceClient`: the typed client of a `FaceEnvironment` that is served somewhere."""

from __future__ import annotations

from typing import Any

from actfer_env.integrations.openenv.models import FaceAction, FaceObservation, FaceState
from actfer_env.packages import needs

with needs("openenv"):
    from openenv.core import EnvClient
    from openenv.core.client_types import StepResult
    from websockets.exceptions import ConnectionClosed


class FaceClient(EnvClient[FaceAction, FaceObservation, FaceState]):
    """A session with a server: ``with FaceClient(base_url="http://localhost:8000").sync() as env: env.reset()``.

    What the server refuses is a `RuntimeError` that says why; the session goes on. A server that has gone away is a
    `ConnectionError` of one line; the next `reset` connects again, and an episode that was not over is lost.
    """

    def _step_payload(self, action: FaceAction) -> dict[str, Any]:
        return action.model_dump(exclude={"metadata"})

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[FaceObservation]:
        reward, done = payload.get("reward"), bool(payload.get("done"))
        observation = FaceObservation(**payload["observation"], reward=reward, done=done)
        return StepResult(observation=observation, reward=reward, done=done)

    def _parse_state(self, payload: dict[str, Any]) -> FaceState:
        return FaceState(**payload)

    async def _send_and_receive(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return await super()._send_and_receive(message)
        except ConnectionClosed as error:
            said = error.rcvd.reason or str(error.rcvd.code) if error.rcvd else "without a word"
            raise ConnectionError(
                f"the server at {self.base_url} has ended the session ({said}): reset() begins another"
            ) from error
