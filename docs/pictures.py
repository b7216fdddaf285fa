"""Draws the pictures of the README: python docs/pictures.py"""

from pathlib import Path

import gymnasium as gym
from PIL import Image

import actfer_env  # noqa: F401  (registers the environments)
from actfer_env.data.synthetic.gallery import GalleryConfig, sheet, strip

HERE = Path(__file__).parent


def panel() -> None:
    """Draw one finished episode on the portrait."""
    env = gym.make("ActFER-Discrete-v0", dataset="portrait", render_mode="rgb_array", crop_size=146)
    env.reset(seed=0, options={"sample": "portrait-00"})
    for action in (0, 2, 4, 6):
        env.step(action)
    Image.fromarray(env.render()).quantize(192).save(HERE / "panel.png", optimize=True)


def faces() -> None:
    """Draw one face for each emotion."""
    tiles = strip(GalleryConfig(size=192))
    Image.fromarray(sheet([tiles[:4], tiles[4:]])).quantize(224).save(HERE / "faces.png", optimize=True)


if __name__ == "__main__":
    panel()
    faces()
