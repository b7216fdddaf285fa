"""Ends a script of this folder with one line where the package, or a module named on the command line, is missing.

In Python: ``import _installed`` before the package is imported. In a shell: ``python _installed.py verl``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent

try:
    import_module("actfer_env.rollout")
    missing = [name for name in sys.argv[1:] if __name__ == "__main__" and find_spec(name) is None]
    reason = f"No module named {missing[0]!r}" if missing else ""
except ImportError as error:
    reason = str(error)
if reason:
    sys.stderr.write(
        f"error: {reason}: pip install -r {HERE}/requirements-cpu.txt -e '.[verl]', or with GPUs "
        f"pip install -r {HERE}/requirements-gpu.txt && pip install --no-deps -e .\n"
    )
    sys.exit(2)
