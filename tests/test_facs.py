"""The taxonomy: spellings, prototypes, regions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actfer_env import facs
from actfer_env.errors import LabelError


@pytest.mark.parametrize(
    ("label", "emotion"),
    [("angry", "anger"), ("Happy", "happiness"), (" SAD ", "sadness"), ("surprised", "surprise"), ("fear", "fear"),
     ("disgusted", "disgust"), ("Contempt", "contempt"), ("Neutral", "neutral")],
)  # fmt: skip
def test_emotion_spellings(label, emotion):
    assert facs.parse_emotion(label) == emotion


@pytest.mark.parametrize("label", ["", "hangry", "unknown", None, 3, "happy sad"])
def test_unknown_emotion_is_refused_with_the_list(label):
    with pytest.raises(LabelError, match="use one of neutral, happiness"):
        facs.parse_emotion(label)


@pytest.mark.parametrize(
    "label",
    ["AU12", "au12", "AU_12", "au_12", "AU12_r", "AU12_c", "au_12_intensity", "12", 12, "R12B",
     "L12", "AU12E", " AU 12 ", "Lip Corner Puller"],
)  # fmt: skip
def test_au_spellings(label):
    assert facs.parse_au(label) == 12


@given(st.sampled_from(sorted(facs.AU_NAMES)))
def test_every_au_round_trips_in_every_file_spelling(au):
    for text in (facs.format_au(au), f"AU{au:02d}", f"au_{au}", f"AU{au:02d}_r", str(au), facs.AU_NAMES[au]):
        assert facs.parse_au(text) == au


@pytest.mark.parametrize("label", ["AU3", "AU99", "12x", "", "A12", True, None, 1.5, "AU-", "AU1AU2"])
def test_unknown_au_is_refused(label):
    with pytest.raises(LabelError, match="unknown Action Unit"):
        facs.parse_au(label)


def test_lists_of_aus():
    assert facs.parse_aus("AU1, AU04;6+12") == {1, 4, 6, 12}
    assert facs.parse_aus(["AU1", 4]) == {1, 4}
    assert facs.parse_aus([]) == frozenset()


def test_regions():
    assert [facs.parse_region(t) for t in ("forehead–eyebrow", "Eyes", "nose", "mouth_chin")] == list(facs.REGIONS)
    with pytest.raises(LabelError, match="unknown region 'ear'"):
        facs.parse_region("ear")


def test_tables_agree():
    assert set(facs.PROTOTYPES) == set(facs.EMOTIONS)
    assert set(facs.AU_REGIONS) == set(facs.AU_NAMES)
    for name in ("CORE_AUS", "DISFA_AUS", "FACIAL_R1_AUS"):
        assert set(getattr(facs, name)) <= set(facs.AU_NAMES)
    assert len(facs.FACIAL_R1_AUS) == 30
    for prototype in facs.PROTOTYPES.values():
        assert all(aus <= set(facs.AU_NAMES) for aus in (prototype.aus, *prototype.variants))
        assert prototype.source
    assert {region for regions in facs.AU_REGIONS.values() for region in regions} == set(facs.REGIONS)


def test_prototypes_are_those_of_emfacs():
    assert facs.PROTOTYPES["happiness"].aus == {6, 12}
    assert facs.PROTOTYPES["sadness"].aus == {1, 4, 15}
    assert facs.PROTOTYPES["fear"].aus == {1, 2, 4, 5, 7, 20, 26}
    assert facs.prototype_aus("disgust") == {9, 15}  # AU16 is not in the core set
