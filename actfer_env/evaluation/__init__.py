"""Stored runs, metrics and the report."""

from actfer_env.evaluation.metrics import Summary, summarize
from actfer_env.evaluation.report import write_report
from actfer_env.evaluation.run import Run, read_run, write_run

__all__ = ["Run", "Summary", "read_run", "summarize", "write_report", "write_run"]
