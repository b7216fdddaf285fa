"""Stored runs, metrics and the report."""

from actfer_env.evaluation.run import Run, read_run, write_run

__all__ = ["Run", "read_run", "write_run"]
