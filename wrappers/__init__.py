"""Gymnasium wrappers for this package's environments."""

from actfer_env.wrappers.record import RecordRollouts

__all__ = ["RecordRollouts"]
