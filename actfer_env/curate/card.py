"""The data card of a curated data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from actfer_env._version import __version__
from actfer_env.curate.replay import Curated


def data_card(source: Curated, lines: int, counts: Mapping[str, Counter[str]]) -> str:
    """Return the text of ``README.md`` for the hub: what the data are, where they come from, what they are not.

    Args:
        source: The curated folder.
        lines: Number of lines.
        counts: Column -> value -> lines.
    """
    options = source.options
    size = next((name for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
                 if lines < limit), "100K<n<1M")  # fmt: skip
    tables = "\n".join(_table(name, counter) for name, counter in counts.items())
    how = (
        "Thoughts were put together from Action Units by a template; no model wrote them."
        if options.writer == "template"
        else f"Thoughts were written by a model under the strategy `{options.strategy}` and checked; pseudo Action Units, "
        "where a line has them, were extracted by a model from its own descriptions."
    )
    return f"""---
license: other
license_name: as-the-source-data-sets
task_categories: [image-classification, visual-question-answering]
language: [en]
size_categories: [{size}]
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---

# Facial expressions: trajectories with tools and thoughts

{lines:,} multi-turn conversations in which a policy aligns a face, may zoom into regions, and answers with facial Action
Units and one of eight emotions. Written by actfer_env {__version__}.

{how}

Each row has `messages` (placeholders for pictures) and `images`, in their order: what the environment shows a policy. The
other columns say what was labelled, what was derived, and which answers of models a line came from.

{tables}
## What to know before use

- The pictures belong to the owners of the source data sets, whose terms allow no redistribution in most cases. Keep this
  data set where the source data sets may lie.
- `emotion_from` and `units_from` tell labels from what was derived. Pseudo-units and prototypes are no annotations.
- Expressions are what annotators read in a face. They do not tell what a person feels.
- Drawn at random into an SFT set and an RL set that share no sample, no subject and no near-duplicate; subjects are known
  only where the source names them.
"""


def _table(name: str, counter: Counter[str]) -> str:
    rows = "\n".join(f"| {value} | {number:,} |" for value, number in counter.most_common())
    return f"| {name} | lines |\n|---|---:|\n{rows}\n"
