"""actfer_env: a Gymnasium environment for agentic facial expression recognition."""

from actfer_env._version import __version__

__all__ = ["__version__"]
