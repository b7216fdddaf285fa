"""A disk cache of drawn pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from actfer_env.errors import ImageError
from actfer_env.images import RGB, load_image, save_png


class DiskCache:
    """Keeps pictures as PNG files, named by what they show; a broken file is drawn again.

    Args:
        folder: Folder of the cache; made if it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def wrap(self, draw: Callable[[], RGB], reference: str) -> Callable[[], RGB]:
        """Return a function that gives the kept picture, or draws and keeps it.

        Args:
            draw: Draws the picture.
            reference: Names it among all pictures; must change when the picture does.
        """
        return partial(self._get, draw, self.path(reference))

    def path(self, reference: str) -> Path:
        """Return where the picture of a reference is kept."""
        digest = hashlib.sha256(reference.encode()).hexdigest()[:24]
        return self.folder / digest[:2] / f"{digest}.png"

    @staticmethod
    def _get(draw: Callable[[], RGB], path: Path) -> RGB:
        try:
            return load_image(path)
        except ImageError:
            image = draw()
            save_png(image, path, quick=True)
            return image
