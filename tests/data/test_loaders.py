"""Data sets in their official layouts: small trees that are loaded, counted and played."""

import pickle
import warnings

import gymnasium as gym
import loader_trees as trees
import numpy as np
import pytest
from helpers import PortraitDetector, shared_path

from actfer_env.data import load_dataset
from actfer_env.data.loaders.base import INFOS, SubjectSplits
from actfer_env.data.loaders.ferplus import label_of
from actfer_env.errors import ActFERError, ImageError
from actfer_env.tools.detectors import Face

EIGHT = dict.fromkeys(trees.EMOTIONS, 1)
SEVEN = dict.fromkeys(trees.RAF, 2)
LAYOUTS = {
    "rafdb": ("rafdb", trees.rafdb, {"train": SEVEN, "test": SEVEN}, "basic, aligned"),
    "rafdb original": ("rafdb", trees.rafdb_original, {"train": SEVEN, "test": SEVEN}, "basic, original"),
    "rafdb mirror": ("rafdb", trees.rafdb_mirror, {"train": SEVEN, "test": SEVEN}, "mirror, aligned"),
    "rafau": ("rafau", trees.rafau, {None: {None: 12}}, "aligned"),
    "ferplus pixels": ("ferplus", trees.ferplus_pixels, dict.fromkeys(("train", "val", "test"), EIGHT),
                       "votes of fer2013new.csv, pixels of fer2013.csv"),
    "ferplus pictures": ("ferplus", trees.ferplus_pictures, dict.fromkeys(("train", "val", "test"), EIGHT),
                         "votes of label.csv, pictures"),
    "ferplus folders": ("ferplus", trees.ferplus_folders, dict.fromkeys(("train", "val", "test"), EIGHT),
                        "class folders"),
    "affectnet csv": ("affectnet", trees.affectnet_csv, {"train": EIGHT, "val": EIGHT}, "CSV, photos"),
    "affectnet npy": ("affectnet", trees.affectnet_npy, {"train": EIGHT, "val": EIGHT}, "npy, faces"),
    "sfew": ("sfew", trees.sfew, {"train": SEVEN, "val": SEVEN}, "aligned faces"),
    "disfa": ("disfa", trees.disfa, {"train": {None: 18}, "test": {None: 6}}, "frames, left camera"),
    "disfa videos": ("disfa", trees.disfa_videos, {"train": {None: 18}, "test": {None: 6}},
                     "videos, left camera"),
    "disfaplus": ("disfaplus", trees.disfa_plus, {"train": {None: 16}, "test": {None: 8}}, "frames"),
    "bp4d": ("bp4d", trees.bp4d, {"train": {None: 16}, "test": {None: 8}}, "occurrence"),
    "facial_expressions": ("facial_expressions", trees.facial_expressions, None, "photos"),
    "folders": ("folders", trees.folders, {"train": EIGHT, "test": EIGHT}, "splits and classes"),
}  # fmt: skip
"""What is tested -> registered name, tree, split -> class -> number, edition."""


class MiddleDetector(PortraitDetector):
    """Finds a face in the middle of every picture."""

    def detect(self, image):
        height, width = image.shape[:2]
        points = np.array([[0.38, 0.42], [0.62, 0.42], [0.5, 0.55], [0.4, 0.68], [0.6, 0.68]]) * (width, height)
        return [Face((0.2 * width, 0.2 * height, 0.8 * width, 0.85 * height), points, 0.99)]


def quiet(name, root, split=None, **options):
    """Load a part of a data set; that it is a part is told by a warning, which is not the matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_dataset(name, root, split, **options)


def refused(name, root, split=None, **options):
    """The one line with which loading is refused."""
    with pytest.raises(ActFERError) as caught:
        quiet(name, root, split, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("what", LAYOUTS)
def test_a_layout_is_loaded_counted_and_played(what, tmp_path):
    name, build, counts, edition = LAYOUTS[what]
    root = trees.fresh(tmp_path, build)
    dataset = quiet(name, root)
    samples = dataset._samples
    assert samples.edition.name == edition
    if counts is not None:
        assert {split: dict(classes) for split, classes in samples.counts.items()} == counts
    assert len(dataset) == sum(sum(classes.values()) for classes in samples.counts.values())
    assert [dataset.find(dataset[index].id) for index in range(len(dataset))] == list(range(len(dataset)))
    assert len({sample.key for sample in dataset}) == len(dataset)
    for split in set(samples.counts) - {None}:
        part = quiet(name, root, split)
        assert {sample.split for sample in part} == {split}
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=dataset, detector=MiddleDetector())
    for seed in range(10):
        env.reset(seed=seed)
        done, actions = False, iter((0, 1, 5))
        while not done:
            _, _, ended, cut, info = env.step([next(actions, 5), 1] + [0] * 18)
            done = ended or cut
        assert info["rollout"].detection == ("prealigned" if dataset[0].prealigned else "ok")
        assert info["rollout"].meta["dataset"] == name


@pytest.mark.parametrize("name", sorted(INFOS))
def test_a_missing_folder_and_a_missing_root_are_one_line(name, tmp_path):
    if name == "huggingface":
        pytest.importorskip("datasets")
    assert "root=FOLDER" in refused(name, None)
    assert "no such folder" in refused(name, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(name, tmp_path / "empty")


def test_another_data_sets_folder_is_recognised(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    assert "it looks like RAF-DB: load_dataset('rafdb')" in refused("sfew", root)
    root = trees.fresh(tmp_path, trees.disfa_plus)
    assert "it looks like DISFA+" in refused("disfa", root)


def test_official_names_are_understood(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    assert quiet("RAF-DB", root).name == "rafdb" == quiet("raf_db", root).name
    root = trees.fresh(tmp_path, trees.disfa_plus)
    assert quiet("DISFA+", root).name == "disfaplus"


def test_auto_takes_the_train_split_where_there_are_splits_and_all_where_there_are_none(tmp_path):
    dataset = quiet("rafdb", trees.fresh(tmp_path, trees.rafdb), "auto")
    assert dataset.arguments["split"] == "train" and len(dataset) == 14
    dataset = quiet("rafau", trees.fresh(tmp_path, trees.rafau), "auto")
    assert dataset.arguments["split"] is None and len(dataset) == 12
    assert "names no splits" in refused("rafau", tmp_path / "rafau", "test")
    assert "it has train (14), test (14)" in refused("rafdb", tmp_path / "rafdb", "val")


def test_a_part_is_loaded_with_a_warning_that_names_the_official_number(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    with pytest.warns(UserWarning, match=r"RAF-DB \(basic, aligned\): a part .*: train 14 of 12,271, test 14 of 3,068"):
        load_dataset("rafdb", root)
    assert "14 pictures in train, officially 12,271" in refused("rafdb", root, totals="exact")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset("rafdb", root, totals="ignore")


def test_more_pictures_of_a_class_than_the_data_set_has_are_another_edition(tmp_path):
    """RAF-DB's test split has 74 of fear; with labels in alphabetical order there would be more."""
    root = trees.fresh(tmp_path, trees.rafdb)
    label = root / "basic/EmoLabel/list_patition_label.txt"
    trees.text(label, *(f"test_{number:05d}.jpg 2" for number in range(1, 76)))
    for number in range(15, 76):
        (root / f"basic/Image/aligned/test_{number:05d}_aligned.jpg").touch()
    assert "75 pictures in test, fear, officially 74" in refused("rafdb", root)


RAF_LIST, LEGEND = "basic/EmoLabel/list_patition_label.txt", "data/legend.csv"
FAULTS = {
    "rafdb: label out of range": ("rafdb", trees.rafdb, RAF_LIST, 3, "train_00003.jpg 8", "label '8' is not"),
    "rafdb: columns swapped": ("rafdb", trees.rafdb, RAF_LIST, 1, "5 train_00001.jpg", "is no line such as"),
    "rafdb: not there": ("rafdb", trees.rafdb, RAF_LIST, 2, "train_99999.jpg 1", "is not there"),
    "rafau: no unit": ("rafau", trees.rafau, "RAFAU_label.txt", 3, "0003.jpg 6+99", "unknown Action Unit '99'"),
    "rafau: one column": ("rafau", trees.rafau, "RAFAU_label.txt", 2, "0002.jpg", "is no line such as"),
    "ferplus: eleven votes": ("ferplus", trees.ferplus_pixels, "fer2013new.csv", 3,
                              "Training,fer0000001.png,9,2,0,0,0,0,0,0,0,0", "11 votes"),
    "ferplus: votes below 0": ("ferplus", trees.ferplus_pixels, "fer2013new.csv", 3,
                               "Training,fer0000001.png,-1,2,0,0,0,0,0,0,0,0", "a number of votes '-1'"),
    "ferplus: another order": ("ferplus", trees.ferplus_pixels, "fer2013.csv", 2,
                               "0," + "0 " * (48 * 48 - 1) + "0,PublicTest", "different orders"),
    "ferplus: columns swapped": ("ferplus", trees.ferplus_pixels, "fer2013new.csv", 1,
                                 "Usage,Image name,happiness,neutral," + ",".join(trees.VOTES[2:]), "another order"),
    "ferplus: few pixels": ("ferplus", trees.ferplus_pixels, "fer2013.csv", 2, "0,1 2 3,Training", "48 x 48"),
    "affectnet: label out of range": ("affectnet", trees.affectnet_csv, "training.csv", 3,
                                      "0/0001.jpg,4,5,50,51,1;2,11,0,0", "expression '11'"),
    "affectnet: columns swapped": ("affectnet", trees.affectnet_csv, "training.csv", 1,
                                   "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
                                   "valence,expression,arousal", "another order"),
    "affectnet: values swapped": ("affectnet", trees.affectnet_csv, "training.csv", 2,
                                  "0/0000.jpg,4,5,50,51,1;2,0.25,3,0", "expression '0.25'"),
    "affectnet: no column": ("affectnet", trees.affectnet_csv, "validation.csv", 1,
                             "path,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence",
                             "no column 'subDirectory_filePath'"),
    "affectnet: valence": ("affectnet", trees.affectnet_csv, "training.csv", 2, "0/0000.jpg,4,5,50,51,1;2,3,-2,0",
                           "valence '-2' is not within -1 to 1"),
    "disfa: intensity": ("disfa", trees.disfa, "ActionUnit_Labels/SN001/SN001_au12.txt", 4, "4,6", "intensity '6'"),
    "disfa: columns swapped": ("disfa", trees.disfa, "ActionUnit_Labels/SN001/SN001_au12.txt", 1, "0,1",
                               "frame '0' where 1 should stand"),
    "disfaplus: intensity": ("disfaplus", trees.disfa_plus, "Labels/SN001/B2_TrialNo_2/AU4.txt", 3, "000.jpg  7",
                             "intensity '7'"),
    "bp4d: code": ("bp4d", trees.bp4d, "AUCoding/AU_OCC/F001_T1.csv", 2, "1," + ",".join(["5"] * 99),
                   "AU1 is '5', not 0"),
    "bp4d: short": ("bp4d", trees.bp4d, "AUCoding/AU_OCC/F001_T1.csv", 3, "2,0,0", "3 values where"),
    "bp4d: units swapped": ("bp4d", trees.bp4d, "AUCoding/AU_OCC/F001_T1.csv", 1,
                            "frame,2,1," + ",".join(map(str, range(3, 100))), "ascending order"),
    "facial_expressions: emotion": ("facial_expressions", trees.facial_expressions, LEGEND, 2,
                                    "302,PersonA0_0001.jpg,bored", "unknown emotion 'bored'"),
    "facial_expressions: columns swapped": ("facial_expressions", trees.facial_expressions, LEGEND, 1,
                                            "user.id,emotion,image", "another order"),
    "facial_expressions: values swapped": ("facial_expressions", trees.facial_expressions, LEGEND, 3,
                                           "302,neutral,PersonA0_0001.jpg", "'neutral' is no picture's name"),
    "facial_expressions: not there": ("facial_expressions", trees.facial_expressions, LEGEND, 2,
                                      "302,Nobody_0001.jpg,neutral", "is not there"),
}  # fmt: skip
"""What is wrong -> data set, tree, file, its line, what stands there, what is said."""


@pytest.mark.parametrize("what", FAULTS)
def test_a_broken_line_is_refused_by_file_and_line(what, tmp_path):
    name, build, file, line, instead, said = FAULTS[what]
    root = trees.fresh(tmp_path, build)
    path = root / file
    lines = path.read_text().splitlines()
    lines[line - 1] = instead
    path.write_text("\n".join(lines) + "\n")
    message = refused(name, root)
    assert f"{path}, line {line}: " in message and said in message


WRONG = {
    "rafdb: class folder": ("rafdb", trees.rafdb_mirror, "DATASET/train/8/a.jpg", "class folders are 1 to 7"),
    "rafdb: split": ("rafdb", trees.rafdb_mirror, "DATASET/train/1/test_00001_aligned.jpg", "RAF-DB's test split"),
    "ferplus: class folder": ("ferplus", trees.ferplus_folders, "test/bored/a.png", "no class 'bored'"),
    "sfew: class folder": ("sfew", trees.sfew, "Val_Aligned_Faces/Contempt/a.png", "no class 'Contempt'"),
    "disfa: subject": ("disfa", trees.disfa, "ActionUnit_Labels/SN014/SN014_au1.txt", "no subject 'SN014'"),
    "bp4d: subject": ("bp4d", trees.bp4d, "AUCoding/AU_OCC/F099_T1.csv", "no table of BP4D"),
    "folders: class": ("folders", trees.folders, "train/bored/a.jpg", "'bored' is no class"),
    "folders: beside the splits": ("folders", trees.folders, "extra/fear/1.png", "beside folders of splits"),
    "folders: loose beside the splits": ("folders", trees.folders, "a.jpg", "beside folders of splits"),
    "folders: loose": ("folders", trees.folders, "train/a.jpg", "in no class folder"),
}
"""What is wrong -> data set, tree, a file too many, what is said."""


@pytest.mark.parametrize("what", WRONG)
def test_what_the_edition_does_not_have_is_refused_by_its_path(what, tmp_path):
    name, build, file, said = WRONG[what]
    root = trees.fresh(tmp_path, build)
    trees.Pictures()(root / file)
    message = refused(name, root)
    assert said in message and file.split("/")[0] in message


def test_original_pictures_in_the_folder_of_the_aligned_ones_are_another_edition(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb_original)
    (root / "basic/Image/original").rename(root / "basic/Image/aligned")
    message = refused("rafdb", root)
    assert f"{root / RAF_LIST}, line 1" in message and "these are the original pictures" in message
    assert "no folder" in refused("rafdb", root, images="original")


def test_files_of_one_subject_that_do_not_agree_are_refused(tmp_path):
    root = trees.fresh(tmp_path, trees.disfa)
    path = root / "ActionUnit_Labels/SN001/SN001_au12.txt"
    path.write_text("1,0\n2,0\n")
    assert f"{path}, line 2: 2 frames, but 6" in refused("disfa", root)
    path.unlink()
    assert f"{path} is not there" in refused("disfa", root)


def test_a_corrupt_picture_is_one_line_when_it_is_looked_at(tmp_path):
    root = trees.fresh(tmp_path, trees.sfew)
    path = root / "Val_Aligned_Faces/Happy/film_1.png"
    path.write_bytes(path.read_bytes()[:100])
    dataset = quiet("sfew", root)
    with pytest.raises(ImageError, match=str(path)):
        dataset[dataset.find("val/Happy/film_1.png")].load()
    root = trees.fresh(tmp_path, trees.ferplus_pixels)
    dataset = quiet("ferplus", root)
    (root / "fer2013.csv").write_text((root / "fer2013.csv").read_text().replace(" ", "x"))
    with pytest.raises(ImageError, match=r"fer2013\.csv, byte \d+: no picture"):
        dataset[0].load()


def test_listed_pictures_that_are_not_there_can_be_left_out_or_kept(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    (root / "basic/Image/aligned/train_00002_aligned.jpg").unlink()
    with pytest.warns(UserWarning, match=r"1 listed picture left out; .*line 2: .*train_00002_aligned"):
        assert len(load_dataset("rafdb", root, missing="skip", totals="ignore")) == 27
    assert len(quiet("rafdb", root, missing="keep")) == 28
    assert "missing='sometimes' is unknown" in refused("rafdb", root, missing="sometimes")


@pytest.mark.parametrize("name", ["affectnet", "rafau"])
def test_the_folder_is_found_also_where_the_first_picture_is_missing(name, tmp_path):
    build, first = {"affectnet": (trees.affectnet_csv, "Manually_Annotated/0/0000.jpg"),
                    "rafau": (trees.rafau, "aligned/0001_aligned.jpg")}[name]  # fmt: skip
    root = trees.fresh(tmp_path, build)
    if name == "affectnet":  # as it is unpacked: one folder within another
        (root / "Manually_Annotated").rename(root / "pictures")
        (root / "Manually_Annotated").mkdir()
        (root / "pictures").rename(root / "Manually_Annotated" / "Manually_Annotated_Images")
        first = first.replace("Manually_Annotated/", "Manually_Annotated/Manually_Annotated_Images/")
    whole = len(quiet(name, root, missing="skip"))
    (root / first).unlink()
    assert len(quiet(name, root, missing="skip")) == whole - 1 > 0


def test_an_empty_label_file_of_affectnet_is_named(tmp_path):
    root = trees.fresh(tmp_path, trees.affectnet_npy)
    path = root / "train_set/annotations/0_exp.npy"
    path.write_bytes(b"")
    assert f"{path}: not a single value" in refused("affectnet", root)


def test_columns_that_come_twice_are_refused(tmp_path):
    root = trees.fresh(tmp_path, trees.affectnet_csv)
    path = root / "training.csv"
    path.write_text(path.read_text().replace("face_x", "expression", 1))
    assert "column 'expression' comes twice" in refused("affectnet", root)


def test_sides_and_units_of_raf_au_are_kept(tmp_path):
    root = trees.fresh(tmp_path, trees.rafau)
    dataset = quiet("rafau", root)
    assert dataset[0].aus == {4, 12, 25} and dataset[0].meta["au_sides"] == {"AU12": "L"}
    assert dataset[1].aus == frozenset() and dataset[2].meta["au_sides"] == {"AU10": "R"}
    assert quiet("rafau", root, empty_aus="unlabelled")[1].aus is None


def test_intensities_of_disfa_are_kept_and_two_is_present(tmp_path):
    root = trees.fresh(tmp_path, trees.disfa)
    sample = quiet("disfa", root)[0]
    assert sample.aus == {6, 12} and sample.meta["intensities"] == {"AU6": 3, "AU12": 3, "AU25": 1}
    assert sample.subject == "SN001" and sample.emotion is None
    assert quiet("disfa", root, threshold=1)[0].aus == {6, 12, 25}
    assert quiet("disfa", root)[1].aus == frozenset()


def test_frames_of_a_video_are_those_of_the_labels(tmp_path):
    dataset = quiet("disfa", trees.fresh(tmp_path, trees.disfa_videos))
    shades = [int(dataset[frame].load().mean()) for frame in range(6)]
    assert np.allclose(shades, [40 * frame for frame in range(1, 7)], atol=6)
    assert dataset[5].id == "SN001-0006"


def test_frames_that_count_from_zero_are_those_that_count_from_one(tmp_path):
    root = trees.fresh(tmp_path, trees.disfa)
    paths = [sample.source for sample in quiet("disfa", root)]
    for path in sorted((root / "Images").rglob("*.jpg"), key=lambda one: int(one.stem)):
        path.rename(path.with_name(f"frame_{int(path.stem) - 1:05d}.jpg"))
    shifted = [sample.source for sample in quiet("disfa", root)]
    assert [int(path.rpartition("_")[2][:-4]) + 1 for path in shifted] == [
        int(path.rpartition("/")[2][:-4]) for path in paths
    ]


def test_the_papers_subsampling_keeps_five_frames_of_a_label_and_subject(tmp_path):
    root = tmp_path / "d"
    trees.disfa(root, ("SN001", "SN002"), frames=24)
    dataset = quiet("disfa", root, subsample="paper")
    kept = [(sample.subject, sample.aus) for sample in dataset]
    assert len(kept) == 20 and {kept.count(one) for one in kept} == {5}
    frames = [sample.meta["frame"] for sample in dataset if sample.subject == "SN001" and sample.aus]
    assert frames == [1, 7, 13, 17, 23]  # spread over the twelve odd frames
    assert len(quiet("disfa", root, subsample=1)) == 4
    assert "subsample='all'" in refused("disfa", root, subsample="all")


def test_damaged_frames_of_disfa_are_left_out(tmp_path, monkeypatch):
    from actfer_env.data.loaders import disfa

    assert disfa.BAD_FRAMES["SN029"] == range(4330, 4537)
    monkeypatch.setitem(disfa.BAD_FRAMES, "SN001", range(2, 4))
    root = trees.fresh(tmp_path, trees.disfa)
    frames = [sample.meta["frame"] for sample in quiet("disfa", root) if sample.subject == "SN001"]
    assert frames == [1, 4, 5, 6]
    assert len(quiet("disfa", root, bad_frames="keep")) == 24


def test_nine_means_unknown_in_bp4d(tmp_path):
    dataset = quiet("bp4d", trees.fresh(tmp_path, trees.bp4d))
    known, unknown = dataset[0], dataset[3]
    assert known.aus == {6, 12} and "known_aus" not in known.meta
    assert unknown.aus is None and unknown.meta["known_aus"]["AU12"] == 1 and "AU24" not in unknown.meta["known_aus"]


def test_a_person_is_in_the_same_split_of_disfa_and_disfa_plus(tmp_path):
    splits = {}
    for name, build in (("disfa", trees.disfa), ("disfaplus", trees.disfa_plus)):
        splits[name] = {sample.subject: sample.split for sample in quiet(name, trees.fresh(tmp_path, build))}
    assert splits["disfaplus"].items() <= splits["disfa"].items()


def test_every_subject_is_tested_in_exactly_one_fold():
    people = tuple(f"SN{number:03d}" for number in range(27))
    for listed in (people, ()):
        tested = [person for fold in range(3) for person in people
                  if SubjectSplits(3, fold, subjects=listed)(person) == "test"]  # fmt: skip
        assert sorted(tested) == list(people)
    assert {SubjectSplits(3, 0, False, people)(person) for person in people} == {"train", "test"}
    with pytest.raises(ActFERError, match="fold 3 of 3 does not exist"):
        SubjectSplits(3, 3)


def test_vote_rules_of_ferplus():
    tied = [4, 4, 0, 0, 0, 0, 0, 0, 2, 0]
    assert label_of(tied, "plurality", "first") == ("neutral", "")
    assert label_of(tied, "plurality", "drop") == (None, "tied votes")
    assert label_of(tied, "majority", "first") == (None, "no majority")
    assert label_of([5, 1, 1, 1, 1, 1, 0, 0, 0, 0], "majority", "first") == ("neutral", "")  # single votes are dropped
    assert label_of([3, 0, 0, 0, 0, 0, 0, 0, 7, 0], "plurality", "first") == ("neutral", "")
    assert label_of([3, 0, 0, 0, 0, 0, 0, 0, 7, 0], "majority", "first") == (None, "no majority")
    assert label_of([0] * 8 + [4, 6], "plurality", "first") == (None, "no vote for an emotion")


def test_votes_of_ferplus_are_kept_as_a_distribution(tmp_path):
    dataset = quiet("ferplus", trees.fresh(tmp_path, trees.ferplus_pixels))
    assert dataset[0].meta["distribution"] == {"neutral": 0.875, "happiness": 0.125}
    assert dataset[0].load().shape == (48, 48, 3) and dataset._samples.left_out == {"no face": 1}
    root = trees.fresh(tmp_path, trees.ferplus_pictures)
    assert quiet("ferplus", root)[0].meta["votes"] == [7, 1, 0, 0, 0, 0, 0, 0, 2, 0]


def test_affectnet_keeps_valence_and_arousal_and_leaves_out_what_is_no_emotion(tmp_path):
    root = trees.fresh(tmp_path, trees.affectnet_csv)
    dataset = quiet("affectnet", root)
    assert dataset[2].meta["valence"] == 0.1 and dataset[2].meta["arousal"] == -0.25
    assert dataset[2].meta["face_box"] == [4, 5, 50, 51]
    assert dataset._samples.left_out == {"none": 2, "uncertain": 2, "no face": 2}
    seven = quiet("affectnet", root, classes=7)
    assert len(seven) == 14 and {sample.emotion for sample in seven} == set(trees.EMOTIONS) - {"contempt"}
    npy = trees.fresh(tmp_path, trees.affectnet_npy)
    assert quiet("affectnet", npy, valence=True)[0].meta["valence"] == -0.5
    assert "AffectNet has 8" in refused("affectnet", root, classes=9)
    assert "not public" in refused("affectnet", root, "test")
    np.save(npy / "val_set/annotations/3_exp.npy", np.array("12"))
    assert "3_exp.npy, line 1: expression '12'" in refused("affectnet", npy)


def test_emotions_in_capitals_and_pictures_that_are_listed_twice(tmp_path):
    root = trees.fresh(tmp_path, trees.facial_expressions)
    legend = root / LEGEND
    legend.write_text(legend.read_text() + "1,PersonA0_0001.jpg,neutral\n1,PersonB1_0001.jpg,anger\n")
    with pytest.warns(UserWarning, match=r"legend\.csv, line 63: PersonB1_0001.jpg is anger here and neutral further"):
        dataset = load_dataset("facial_expressions", root, totals="ignore")
    assert len(dataset) == 59 and dataset[1].emotion == "happiness"
    with pytest.raises(ActFERError, match="no sample"):
        dataset.find("PersonB1_0001.jpg")


def test_class_folders_with_names_of_their_own(tmp_path):
    root = tmp_path / "own"
    write = trees.Pictures()
    for folder in ("1", "2", "unsure"):
        write(root / folder / "deep" / "a.jpg")
    assert "'1' is no class" in refused("folders", root)
    dataset = quiet("folders", root, classes={"1": "surprise", "2": "fear", "unsure": None})
    found = [(sample.id, sample.emotion) for sample in dataset]
    assert found == [
        ("1/deep/a.jpg", "surprise"),
        ("2/deep/a.jpg", "fear"),
    ]
    assert len(quiet("folders", root, classes="1=surprise,2=fear,unsure=none")) == 2
    assert "must be FOLDER=EMOTION" in refused("folders", root, classes="surprise,fear")


def test_an_index_is_the_same_in_another_process(tmp_path):
    dataset = quiet("rafdb", trees.fresh(tmp_path, trees.rafdb))
    again = pickle.loads(pickle.dumps(dataset))
    assert list(again) == list(dataset) and again.find(dataset[20].id) == 20
    assert dataset[-1] == dataset[27] and [one.id for one in dataset[3:5]] == [dataset[3].id, dataset[4].id]


def test_one_id_twice_is_refused(tmp_path):
    root = trees.fresh(tmp_path, trees.rafdb)
    path = root / RAF_LIST
    path.write_text(path.read_text() + "train_00001.jpg 1\n")
    assert "has 'train_00001' twice" in refused("rafdb", root)


def test_tables_of_the_library_datasets(tmp_path):
    pytest.importorskip("datasets")
    root = tmp_path / "table"
    trees.saved_table(root)
    options = {"image": "photo", "label": "emotion", "subject": "who", "aus": "units"}
    dataset = quiet("huggingface", root, **options)
    assert len(dataset) == 16 and dataset[9].emotion == "happiness" and dataset[9].aus == {6, 12}
    assert dataset[9].id == "test-0000001" and dataset.find("test-0000001") == 9 and dataset[9].subject == "test1"
    assert dataset[0].load().shape == (64, 64, 3)
    assert len(quiet("huggingface", root, "test", **options)) == 8
    assert "has no split 'val'" in refused("huggingface", root, "val", **options)
    assert "no column 'image'; the columns are photo, emotion, who, units" in refused("huggingface", root)
    assert "no name of a data set" in refused("huggingface", tmp_path / "none")
    again = pickle.loads(pickle.dumps(dataset))
    assert again[9].id == dataset[9].id and np.array_equal(again[9].load(), dataset[9].load())
    classes = [*trees.EMOTIONS[:7], None]
    assert quiet("huggingface", root, classes=classes, **options)[7].emotion is None
    assert "emotion 7 is not 0 to 6" in refused("huggingface", root, classes=trees.EMOTIONS[:7], **options)
    assert "unknown emotion 'bored'" in refused("huggingface", root, classes="bored", **options)


def test_a_single_table_has_a_known_split_and_missing_labels_are_none(tmp_path):
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"photo": datasets.Image(), "emotion": datasets.ClassLabel(names=["happy", "sad"])})
    picture = {"bytes": trees.encoded(1, "PNG", 64), "path": None}

    def table(label, split=None):
        return datasets.Dataset.from_dict({"photo": [picture], "emotion": [label]}, features=kinds, split=split)

    table(1, "validation").save_to_disk(tmp_path / "one")
    options = {"image": "photo", "label": "emotion"}
    assert [one.split for one in quiet("huggingface", tmp_path / "one", **options)] == ["val"]
    assert len(quiet("huggingface", tmp_path / "one", "val", **options)) == 1
    datasets.DatasetDict({"train": table(0), "test": table(-1)}).save_to_disk(tmp_path / "two")
    assert quiet("huggingface", tmp_path / "two", "train", **options)[0].emotion == "happiness"
    assert quiet("huggingface", tmp_path / "two", "test", **options)[0].emotion is None
    datasets.DatasetDict({"val": table(0), "validation": table(1)}).save_to_disk(tmp_path / "three")
    assert "two of its parts val, validation are val" in refused("huggingface", tmp_path / "three", **options)


def test_the_public_photos_are_split_by_person():
    root = shared_path("facial_expressions")
    parts = {split: quiet("facial_expressions", root, split) for split in ("train", "val", "test")}
    people = {split: {sample.subject for sample in part} for split, part in parts.items()}
    assert sum(map(len, parts.values())) == 1922 == len(quiet("facial_expressions", root))
    assert not people["train"] & people["val"] and not people["test"] & (people["train"] | people["val"])
    assert 0.1 < len(parts["test"]) / 1922 < 0.25
    env = gym.make("ActFER-v0", dataset="facial_expressions", root=str(root), split="test", detector=MiddleDetector())
    _, info = env.reset(seed=0)
    assert parts["test"].find(info["sample_id"]) >= 0


def test_importing_the_loaders_loads_no_optional_package():
    import subprocess
    import sys

    code = "import sys, actfer_env.data; print(*(m for m in ('pandas', 'datasets', 'imagehash') if m in sys.modules))"
    assert not subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
