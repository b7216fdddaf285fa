"""Labels that people have under other names and in other files: read, or missed with a warning, never in silence."""

import codecs
import json
import warnings

import pytest
from helpers import lines, picture, pictures

from actfer_env.data import Sample, load_dataset
from actfer_env.errors import DataError


def silent(name, root, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_dataset(name, root, **options)


@pytest.mark.parametrize(
    ("given", "emotion", "aus"),
    [({"label": "fear", "aus": ["AU1"]}, "fear", {1}), ({"emotion": "Happy"}, "happiness", None),
     ({"expression": "sad", "action_units": "AU1+AU4"}, "sadness", {1, 4}),
     ({"Labels": ["anger"], "AU": [4]}, "anger", {4}),
     ({"labels": [], "label": 3, "emotion": "surprise"}, "surprise", None),
     ({"emo": "contempt", "aus": "L12"}, "contempt", {12})],
)  # fmt: skip
def test_labels_under_near_names_are_read_and_told(tmp_path, given, emotion, aus):
    for name, path, key in (("jsonl", tmp_path / "f.jsonl", "image"), ("photos", tmp_path / "manifest.jsonl", "path")):
        picture(tmp_path / "a.png")
        lines(path, {"id": "a", key: "a.png", **given})
        with pytest.warns(UserWarning, match="is read as .* in 1 line: rename it to be sure"):
            (sample,) = load_dataset(name, path if name == "jsonl" else tmp_path)
        assert (sample.emotion, sample.aus) == (emotion, aus) and sample.image.shape == (40, 30, 3)


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"label": "fear", "emotion": "anger"}, "'label' and 'emotion' differ"), ({"label": 5}, "unknown emotion 5"),
     ({"au": {"AU12": 1}}, "Action Units .* must be a list of the active ones"), ({"labels": 5}, "unknown emotion 5"),
     ({"aus": [0.0, 1.2]}, "unknown Action Unit 0.0")],
)  # fmt: skip
def test_what_cannot_be_read_for_sure_is_refused(tmp_path, given, reason):
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=f"line 1: {reason}"):
        load_dataset("jsonl", lines(tmp_path / "f.jsonl", {"id": "a", "image": "a.png", **given}))


def test_documented_keys_come_first_and_are_silent(tmp_path):
    picture(tmp_path / "a.png")
    record = {"id": "a", "image": "a.png", "labels": ["fear"], "AUs": [1], "label": 3, "width": 40, "au_boxes": {}}
    (sample,) = silent("jsonl", lines(tmp_path / "f.jsonl", record))
    assert (sample.emotion, sample.aus) == ("fear", {1})


def test_keys_that_look_like_labels_and_are_not_read_are_named(tmp_path):
    picture(tmp_path / "a.png")
    path = lines(tmp_path / "f.jsonl", {"id": "a", "image": "a.png", "klasse": "happy", "gt_class": 3, "width": 4})
    with pytest.warns(UserWarning, match="'klasse', 'gt_class' is not read"):
        load_dataset("jsonl", path)
    silent("jsonl", lines(path, {"id": "a", "image": "a.png", "width": 4, "url": "x"}))


@pytest.mark.parametrize("label", ["None", "none", " NULL ", None, "", "unlabelled"])
def test_none_is_no_label_in_a_file(tmp_path, label):
    picture(tmp_path / "a.png")
    for labels in (label, [label]):
        (sample,) = silent("jsonl", lines(tmp_path / "f.jsonl", {"id": "a", "image": "a.png", "labels": labels}))
        assert sample.emotion is None


@pytest.mark.parametrize("folder", ["none", "None", "NULL", "unlabelled", "n/a".replace("/", "")])
def test_none_is_no_label_as_a_folder(tmp_path, folder):
    found = silent("photos", pictures(tmp_path, f"{folder}/a.png", "Neutral/b.png"))
    assert {sample.id: sample.emotion for sample in found} == {f"{folder}/a.png": None, "Neutral/b.png": "neutral"}


@pytest.mark.parametrize("names", [["0_angry", "1_happy"], ["01 Anger", "02 Happiness"], ["3.angry", "4.happy"]])
def test_numbers_before_an_emotion_do_not_hide_it(tmp_path, names):
    found = silent("photos", pictures(tmp_path, *(f"{name}/a.png" for name in names)))
    assert [sample.emotion for sample in found] == ["anger", "happiness"]


@pytest.mark.parametrize(
    ("names", "told"),
    [([f"{n}/a.png" for n in range(1, 8)], "folders 1, 2, 3, 4, 5 and 2 more name no emotion .RAF-DB's 1 to 7"),
     (["DATASET/train/4/a.png", "DATASET/test/4/b.png"], "folders 4 name no emotion .RAF-DB"),
     ([f"Images/{n}/a.png" for n in range(7)], "folders 0, 1, 2, 3, 4 and 2 more name no emotion; name the folders"),
     (["freude/a.png", "wut/b.png"], "folders freude, wut name no emotion"),
     (["train/happy faces/a.png", "train/sad faces/b.png"], "folders happy faces, sad faces name no emotion"),
     (["happy/a.png", "sad/a.png", "ennui/b.png"], "pictures in ennui have no label, though")],
)  # fmt: skip
def test_folders_that_were_plainly_meant_as_classes_are_told(tmp_path, names, told):
    with pytest.warns(UserWarning, match=told) as caught:
        load_dataset("photos", pictures(tmp_path, *names))
    assert len(caught) == 1 and "manifest.jsonl" in str(caught[0].message)
    silent("photos", tmp_path, labels="none")


@pytest.mark.parametrize(
    "names",
    [["holiday/2019/a.png", "holiday/2020/b.png"], ["2019/a.png", "2020/b.png"], ["a.png", "b.png"], ["holiday/a.png"],
     ["a.png", "beach/b.png", "city/c.png"], ["DCIM/100CANON/a.png", "DCIM/101CANON/b.png"],
     ["2019-05-01/a.png", "2019-05-02/b.png"], ["Anna/party/a.png", "Bert/b.png"], ["happy/a.png", "train/b.png"],
     ["1/a.png", "2/b.png"], ["aligned/a.png", "original/a.png"], ["happy/2019/a.png", "happy/2020/b.png"]],
)  # fmt: skip
def test_mere_collections_of_photos_are_silent(tmp_path, names):
    silent("photos", pictures(tmp_path, *names))


@pytest.mark.parametrize(
    "name",
    ["labels.csv", "EmoLabel/list_patition_label.txt", "legend.tsv", "train.jsonl",
     "data/legend.csv",
     "annotations.json", "RAFAU_label.txt", "RAF/basic/EmoLabel.txt",
     "a/manifest.jsonl", "val_set/annotations/0_exp.npy",
     "ActionUnit_Labels/SN001/SN001_au1.txt"],
)  # fmt: skip
def test_a_file_of_labels_beside_the_pictures_is_told(tmp_path, name):
    pictures(tmp_path, "train_00001.png", "images/b.png")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("train_00001.png 4\n")
    with pytest.warns(UserWarning, match=f"no picture has a label, and {name} is not read; write manifest.jsonl"):
        load_dataset("photos", tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", "a.png.json", "out/rollouts.jsonl", ".hidden/labels.csv", "demo.json"])
def test_other_files_beside_the_pictures_are_not(tmp_path, name):
    pictures(tmp_path, "a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    silent("photos", tmp_path)


RECORDS = [{"id": "ä", "image": "a.png", "labels": ["fear"]}, {"id": "b", "image": "a.png", "labels": ["anger"]}]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(b"", "utf-8"), (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
     (codecs.BOM_UTF32_LE, "utf-32-le"), (b"", "utf-16-le"), (b"", "utf-16-be")],
)  # fmt: skip
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_files_from_windows_are_read_from_the_first_line(tmp_path, mark, encoding, on_error):
    picture(tmp_path / "a.png")
    text = "\r\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS) + "\r\n"
    for name in ("f.jsonl", "F.JSONL"):
        (tmp_path / name).write_bytes(mark + text.encode(encoding))
        found = silent("jsonl", tmp_path / name, on_error=on_error)
        assert [(sample.id, sample.emotion) for sample in found] == [("ä", "fear"), ("b", "anger")]
    (tmp_path / "manifest.jsonl").write_bytes(mark + text.splitlines()[0].encode(encoding))
    assert [s.emotion for s in silent("photos", tmp_path, on_error=on_error)] == ["fear"]


def test_paths_from_windows_are_found(tmp_path):
    picture(tmp_path / "sub" / "a.png")
    (sample,) = silent("jsonl", lines(tmp_path / "f.jsonl", {"id": "a", "image": "sub\\a.png"}))
    assert sample.image.shape == (40, 30, 3)


def test_a_line_in_another_encoding_spoils_no_other(tmp_path):
    picture(tmp_path / "a.png")
    good, bad = (json.dumps({"id": name, "image": "a.png"}, ensure_ascii=False) for name in ("a", "é"))
    (tmp_path / "f.jsonl").write_bytes(bad.encode("cp1252") + b"\n" + good.encode())
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        load_dataset("jsonl", tmp_path / "f.jsonl")
    with pytest.warns(UserWarning, match="line 1"):
        assert [sample.id for sample in load_dataset("jsonl", tmp_path / "f.jsonl", on_error="skip")] == ["a"]


def test_sides_of_units_are_kept_beside_the_sample(tmp_path):
    picture(tmp_path / "a.png")
    (sample,) = load_dataset("jsonl", lines(tmp_path / "f.jsonl", {"id": "a", "image": "a.png", "AUs": "4+25+L12"}))
    assert sample.aus == {4, 12, 25} and sample.meta["au_sides"] == {"AU12": "L"}
    assert Sample("a", b"", aus=["R14", "AU4"]).meta == {"au_sides": {"AU14": "R"}}
    assert Sample("a", b"", aus=frozenset({14})).meta == {}
