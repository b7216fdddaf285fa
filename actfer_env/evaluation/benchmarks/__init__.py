"""Benchmarks that people publish on: FERBench, DISFA, seven classes, FEA-20K's format; from a folder to tables."""

from actfer_env.evaluation.benchmarks.base import BENCHMARKS, Benchmark, Part, check_benchmark, open_benchmark
from actfer_env.evaluation.benchmarks.figures import add_gain, benchmark_figures
from actfer_env.evaluation.benchmarks.files import read_benchmark, write_benchmark

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Part",
    "add_gain",
    "benchmark_figures",
    "check_benchmark",
    "open_benchmark",
    "read_benchmark",
    "write_benchmark",
]
