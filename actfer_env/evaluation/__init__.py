"""Stored runs, metrics and the report."""

from actfer_env.evaluation.comparison import Difference, compare
from actfer_env.evaluation.evaluate import EvalConfig, evaluate
from actfer_env.evaluation.metrics import Summary, summarize
from actfer_env.evaluation.report import write_report
from actfer_env.evaluation.run import Run, read_run, write_run
from actfer_env.evaluation.tables import summary_rows

__all__ = [
    "Difference",
    "EvalConfig",
    "Run",
    "Summary",
    "compare",
    "evaluate",
    "read_run",
    "summarize",
    "summary_rows",
    "write_report",
    "write_run",
]
