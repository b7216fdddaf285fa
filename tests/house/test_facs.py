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


@pytest.mark.parametrize(
    ("text", "units"),
    [("AU 12", {12}), ("AU 6, AU 12", {6, 12}), ("AU6/AU12", {6, 12}), ("6 and 12", {6, 12}),
     ("AU6, and AU12", {6, 12}), ("AU6+12", {6, 12}), ("AU 6 12", {6, 12}),
     ("AUs: 6, 12", {6, 12}), ("Action Units 6 and 12.", {6, 12}),
     ("['AU6', 'AU12']", {6, 12}), ("[6, 12]", {6, 12}), ("Cheek Raiser, Lip Corner Puller", {6, 12}),
     ("cheek raiser and lip-corner puller", {6, 12}), ("Lips Part", {25}), ("Chin Raiser Lips Part", {17, 25}),
     ("AU12 (Lip Corner Puller)", {12}), ("Lip Corner Puller (AU12)", {12}), ("AU12: Lip Corner Puller", {12}),
     ("AU6 (A), AU12 (C)", {6, 12}), ("AU06_r AU12_c", {6, 12}), ("6B+12C", {6, 12}), ("4+25+L12  ", {4, 12, 25}),
     ("left AU14 and AU6", {6, 14}), ("null", set()), ("None", set()), ("[]", set()), ("", set()),
     ("AU6,,AU12,", {6, 12})],
)  # fmt: skip
def test_units_in_one_text(text, units):
    assert facs.parse_aus(text) == units
    assert not text.strip() or facs.parse_aus([text]) == units


@pytest.mark.parametrize(
    ("text", "part"),
    [("AU6, AU99", "'AU99' in"), ("AU6 smile", "'smile' in"), ("AU6 or AU12", "'or AU12' in"), ("612", "'612':"),
     ("AU12 (Cheek Raiser)", r"'AU12 \(Cheek Raiser\)':"), ("AU6-AU12", "'AU6-AU12'"), ("happy, AU12", "'happy' in"),
     ("AU12x AU6", "'AU12x' in"), ("AUs", "'AUs'"), ("AU12: Cheek Raiser", "'AU12: Cheek Raiser'")],
)  # fmt: skip
def test_a_wrong_part_of_a_text_is_named(text, part):
    for labels in (text, [text]):
        with pytest.raises(LabelError, match=f"unknown Action Unit {part}"):
            facs.parse_aus(labels)


def test_a_table_of_values_is_no_list_of_active_units():
    with pytest.raises(LabelError, match="must be a list of the active ones"):
        facs.parse_aus({"AU6": 0, "AU12": 1})


@pytest.mark.parametrize(
    ("text", "sides"),
    [("4+25+L12", {12: "L"}), ("R14B", {14: "R"}), (["L12", "AU6"], {12: "L"}), ("12L 14R", {12: "L", 14: "R"}),
     ("AU14 (right), left AU12", {12: "L", 14: "R"}), ("L12+R12", {}), ("AU12", {}), ("AU12_r", {}), ([12, 6], {}),
     ("left lip corner puller", {12: "L"}), ("B12 U14", {}), ("null", {})],
)  # fmt: skip
def test_sides(text, sides):
    assert facs.parse_au_sides(text) == sides


SPELLINGS = [facs.format_au, str, lambda au: f"AU {au}", lambda au: f"au_{au:02d}", lambda au: facs.AU_NAMES[au],
             lambda au: f"AU{au} ({facs.AU_NAMES[au]})", lambda au: f"L{au}", lambda au: f"{au}C",
             lambda au: f"AU{au}_intensity", lambda au: f"right AU{au}"]  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(sorted(facs.AU_NAMES)), st.sampled_from(SPELLINGS)), max_size=6),
    st.sampled_from([", ", "+", "/", ";", " ", " and ", ", and ", "|", " & ", "\n", ","]),
)
def test_every_spelling_with_every_separator_is_read(units, separator):
    text = separator.join(spell(au) for au, spell in units)
    assert facs.parse_aus(text) == {au for au, _ in units}
    assert set(facs.parse_au_sides(text)) <= {au for au, _ in units}


@given(st.text(max_size=40) | st.text("AU0123456789+,;/ LRandC()", max_size=30))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        assert facs.parse_aus(text) <= set(facs.AU_NAMES)
    except LabelError as error:
        assert "\n" not in str(error) and "unknown Action Unit" in str(error)


def test_sets_of_units_by_name():
    assert facs.parse_au_set("disfa") == (1, 2, 4, 6, 9, 12, 25, 26)
    assert facs.parse_au_set("disfa12") == (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
    assert facs.parse_au_set(" Facial-R1 ") == facs.FACIAL_R1_AUS and facs.parse_au_set("core") == facs.CORE_AUS
    assert facs.parse_au_set("25,AU12") == facs.parse_au_set((25, 12)) == (12, 25)
    assert facs.format_au_set(facs.DISFA_AUS) == "disfa" and facs.format_au_set((25, 12)) == "AU12 AU25"
    assert facs.parse_au_set(facs.format_au_set((25, 12))) == (12, 25)
    for wrong, told in (
        ("bp4d", "sets are core, disfa"),
        ("", "is empty"),
        ((), "is empty"),
        ("AU99", "unknown Action"),
    ):
        with pytest.raises(LabelError, match=told):
            facs.parse_au_set(wrong)


@pytest.mark.parametrize("label", ["None", "none", "null"])
def test_none_is_no_emotion(label):
    assert facs.is_no_label(label) and facs.is_no_label(None) and not facs.is_no_label("neutral")
    with pytest.raises(LabelError):
        facs.parse_emotion(label)


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
