"""Stored runs, metrics and the report."""

from actfer_env.evaluation.metrics import Summary, summarize
from actfer_env.evaluation.report import summary_rows, write_report
from actfer_env.evaluation.run import Run, read_run, write_run

__all__ = ["Run", "Summary", "read_run", "summarize", "summary_rows", "write_report", "write_run"]
