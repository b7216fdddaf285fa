"""Versions of the package and of what it draws, in one place."""

__version__ = "0.1.0"
GENERATOR_VERSION = 2
"""Raised whenever the same index of drawn faces would give another picture or label; benchmark results name it."""
