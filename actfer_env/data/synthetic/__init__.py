"""Drawn faces with exact labels: the data sets "synthetic", "synthetic-mixed", "synthetic-subtle",
"synthetic-micro"."""

from actfer_env._version import GENERATOR_VERSION
from actfer_env.data.synthetic.presets import PRESETS, Difficulty, SyntheticConfig
from actfer_env.data.synthetic.samples import (
    IDENTITIES,
    PRIOR,
    SIZES,
    Spec,
    SyntheticSamples,
    draw_spec,
    load_mixed,
    load_synthetic,
    make_sample,
    picture,
    render,
    true_landmarks,
    truths,
)

__all__ = [
    "GENERATOR_VERSION", "IDENTITIES", "PRESETS", "PRIOR", "SIZES", "Difficulty", "Spec", "SyntheticConfig",
    "SyntheticSamples", "draw_spec", "load_mixed", "load_synthetic", "make_sample", "picture", "render",
    "true_landmarks", "truths",
]  # fmt: skip
