"""Bounds of settings: every settings class checks its fields, by one mechanism."""

from __future__ import annotations

import importlib
import math
import pickle
import pkgutil
import re
from dataclasses import asdict, dataclass, fields, is_dataclass, replace

import numpy as np
import pytest
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

import actfer_env
from actfer_env.bounds import Bounds, bounded, check_fields
from actfer_env.chat import ChatConfig
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import ActFERError, DataError, SettingsError
from actfer_env.rewards import TOOL_RULES, FacialR1Reward, TAGReward, UCGRPOConfig
from actfer_env.tools import ZoomConfig

REQUIRED = {"EndpointConfig": {"url": "http://localhost:8000/v1", "model": "m"}}
"""Class -> the arguments that have no default."""
SEPARATE = {("UCGRPOConfig", "alpha"), ("UCGRPOConfig", "beta"), ("PrecomputeConfig", "part")}
"""Fields that another one bounds as well."""


def settings_classes():
    """Find every settings class in the source: the dataclasses named ...Config or ...Settings, and the rewards."""
    found = {}
    for path in sorted([*ROOT.glob("actfer_env/**/*.py"), *ROOT.glob("agents/**/*.py"), *ROOT.glob("wrappers/*.py")]):
        names = re.findall(r"^@dataclass.*\nclass (\w+(?:Config|Settings))\b", path.read_text(encoding="utf-8"), re.M)
        if names:
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(parts if parts[0] == "actfer_env" else ("actfer_env", *parts))
            found |= {(module, name): None for name in names}
    return sorted(found)


CLASSES = [*settings_classes(), ("actfer_env.rewards", "FacialR1Reward"), ("actfer_env.rewards", "TAGReward")]
CLASSES += [("actfer_env.rewards.tool_rules", rule.__name__) for rule in TOOL_RULES.values()]
every_class = pytest.mark.parametrize(("module", "name"), CLASSES, ids=[name for _, name in CLASSES])


def load(module, name):
    if module.startswith("actfer_env.agents.") and module.rpartition(".")[2] not in ("openai_chat", "base"):
        pytest.importorskip("torch")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:  # an extra that is not installed
        pytest.skip(str(error))


def numeric(item):
    """Return the kind of a numeric field's entries, or None for other fields."""
    if "..." in str(item.type):  # a set of Action Units, which `facs` checks
        return None
    kinds = set(re.findall(r"\w+", str(item.type))) - {"tuple", "None"}
    return "int" if kinds == {"int"} else "float" if kinds == {"float"} else None


def beyond(bounds):
    """Return values beyond each of a field's bounds."""
    found = []
    if bounds.choices:
        found.append(max(bounds.choices) + 1)
    if bounds.ge is not None:
        found.append(bounds.ge - 1)
    if bounds.gt is not None:
        found += [bounds.gt, bounds.gt - 1]
    if bounds.le is not None:
        found.append(bounds.le + 1)
    if bounds.lt is not None:
        found += [bounds.lt, bounds.lt + 1]
    return found


@every_class
def test_every_number_of_every_settings_class_has_bounds_or_is_unbounded_on_purpose(module, name):
    cls = load(module, name)
    required = REQUIRED.get(name, {})
    usual = cls(**required)
    for item in fields(cls):
        kind = numeric(item)
        if kind is None:
            continue
        assert "bounds" in item.metadata, f"{name}.{item.name}: state its bounds with actfer_env.bounds.bounded"
        bounds, many = item.metadata["bounds"], str(item.type).startswith("tuple[")
        usual_value = getattr(usual, item.name)
        wrong = [*beyond(bounds), math.nan, math.inf, -math.inf, "1", True, 10**400 if kind == "float" else 1.5]
        for value in wrong:
            given_value = (*usual_value[:-1], value) if many else value
            with pytest.raises(ActFERError, match=rf"^{item.name} must be .*, got ") as caught:
                cls(**required, **{item.name: given_value})
            said = str(caught.value)
            assert isinstance(caught.value, (ValueError, RuntimeError)) and "\n" not in said
            assert str(bounds) in said and name in said, said
        if many:
            with pytest.raises(ActFERError, match=rf"^{item.name} must be {len(usual_value)} "):
                cls(**required, **{item.name: usual_value[:-1]})
        if usual_value is not None and not many:  # the bounds themselves are taken
            inside = [edge for edge in (bounds.ge, bounds.le, *bounds.choices) if edge is not None]
            if (name, item.name) not in SEPARATE:
                for edge in inside:
                    made = getattr(cls(**required, **{item.name: edge}), item.name)
                    assert made == edge and type(made).__name__ == kind


@every_class
def test_every_switch_is_true_or_false(module, name):
    cls = load(module, name)
    required = REQUIRED.get(name, {})
    for item in fields(cls):
        if str(item.type) == "bool":
            for value in ("no", 1, None):
                with pytest.raises(ActFERError, match=rf"^{item.name} must be true or false, got "):
                    cls(**required, **{item.name: value})


def test_the_examples_that_were_once_taken():
    with pytest.raises(SettingsError, match=r"^padding must be a number of at least 0, got -5: .* ZoomConfig$"):
        ZoomConfig(padding=-5)
    with pytest.raises(ValueError, match=r"^max_turns must be a whole number of at least 1, got 0"):
        EpisodeConfig(max_turns=0)
    with pytest.raises(DataError, match="max_zooms must be a whole number"):
        EpisodeConfig(max_zooms=2.5)
    with pytest.raises(ActFERError, match=r"image_side must be a whole number of at least 16, got 8"):
        ChatConfig(image_side=8)


def test_numbers_of_numpy_and_lists_become_plain():
    config = UCGRPOConfig(gamma=np.float32(0.25), ema_min_count=np.int64(3), r=0)
    assert type(config.gamma) is float and type(config.ema_min_count) is int and type(config.r) is float
    assert type(EpisodeConfig(max_turns=np.int16(4)).max_turns) is int
    assert replace(TAGReward(), max_boxes=np.int8(2)) == TAGReward(max_boxes=2)
    assert type(FacialR1Reward(std_eps=np.float64(0.5)).std_eps) is float

    @dataclass
    class Sides:
        sides: tuple[float, float] = bounded((1.0, 2.0), gt=0)
        number: int | None = bounded(None, ge=1)

        def __post_init__(self) -> None:
            check_fields(self)

    assert asdict(Sides([3, np.float32(4)])) == {"sides": (3.0, 4.0), "number": None}
    for wrong in ({"sides": (1.0, 0.0)}, {"sides": (1.0,)}, {"sides": 3.0}, {"sides": None}, {"number": 0}):
        with pytest.raises(SettingsError, match=rf"^{next(iter(wrong))} must be"):
            Sides(**wrong)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([{"ge": 0, "le": 1}, {"gt": 0}, {"ge": 0, "lt": 1}, {"le": 0}, {"gt": -2, "lt": 2}, {}]),
)
def test_a_value_is_taken_where_it_lies_within_its_bounds_and_nowhere_else(value, given_bounds):
    inside = (
        value >= given_bounds.get("ge", -math.inf) and value > given_bounds.get("gt", -math.inf)
        and value <= given_bounds.get("le", math.inf) and value < given_bounds.get("lt", math.inf)
    )  # fmt: skip
    assert Bounds(**given_bounds).hold(value) is inside


def test_errors_of_settings_travel_between_processes():
    with pytest.raises(SettingsError) as caught:
        ZoomConfig(size=1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is SettingsError and str(again) == str(caught.value)


def test_the_search_finds_the_classes():
    names = {name for _, name in CLASSES}
    assert {"ZoomConfig", "TrainerConfig", "EndpointConfig", "UCGRPOConfig", "TAGReward"} <= names
    assert len(names) > 25 and is_dataclass(UCGRPOConfig)
    assert {one.name for one in pkgutil.iter_modules(actfer_env.__path__)} >= {"bounds", "limits"}
