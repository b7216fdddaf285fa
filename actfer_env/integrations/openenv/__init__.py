"""OpenEnv: the episode as a server that many clients play at a time, and its typed client. Needs `[openenv]`."""

from actfer_env.integrations.openenv.client import FaceClient
from actfer_env.integrations.openenv.environment import FaceEnvironment
from actfer_env.integrations.openenv.models import FaceAction, FaceObservation, FaceState
from actfer_env.integrations.openenv.server import openenv_app, serve

__all__ = ["FaceAction", "FaceClient", "FaceEnvironment", "FaceObservation", "FaceState", "openenv_app", "serve"]
