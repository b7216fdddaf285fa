"""What `reset(options=...)` may choose, for every environment of this package."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from actfer_env.data.sample import Dataset, Sample
from actfer_env.errors import short

_KNOWN = ("sample", "group", "member")


class Choice(NamedTuple):
    """The sample of an episode, and its place in a query group."""

    sample: Sample
    group: str
    member: int


def choose(options: Mapping[str, Any] | None, dataset: Dataset, drawn: int, number: int) -> Choice:
    """Read the options of a reset; what is left out, or None, is chosen here.

    Args:
        options: "sample" (index or id), "group" (id), "member" (index).
        dataset: the data set.
        drawn: the index of the sample, if none is named.
        number: of the episode; makes the group's id, if none is named.

    Raises:
        DataError: no such sample.
        ValueError: an unknown option, or a member that is no whole number.
    """
    given = {key: value for key, value in (options or {}).items() if value is not None}
    for key in given:
        if key not in _KNOWN:
            raise ValueError(f"unknown reset option {key!r}: use 'sample', 'group' or 'member'")
    sample = dataset[dataset.find(given.get("sample", drawn))]
    try:
        member = operator.index(given.get("member", 0))
    except TypeError:
        raise ValueError(f"reset option 'member' is {short(given['member'])}: give a whole number") from None
    return Choice(sample, str(given.get("group", f"{sample.id}#{number}")), member)
