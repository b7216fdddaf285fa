"""`Watch`: the one shape of progress callbacks, of evaluation, playing, caches, checks and trainers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Watch = Callable[[str, int, int, Mapping[str, float]], None]
"""Called with the phase, such as "pictures" or "training"; the number done and the number in all; and figures of what
was done last, empty where there are none."""
