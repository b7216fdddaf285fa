"""The check of examples/verl_grpo/_installed.py, for the scripts of this folder: ``import _installed``."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[2] / "examples" / "verl_grpo" / "_installed.py"))
