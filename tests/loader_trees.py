"""Small trees in the official layouts of published data sets, with made-up pictures."""

import io
import json
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
RAF = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
SFEW = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
FERPLUS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
SHORT = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
"""EMOTIONS as FERPlus spells them in FERBench."""
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
DISFA_AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)


@lru_cache(maxsize=512)
def encoded(seed, kind, side):
    """The bytes of a picture with coarse structure, another for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(stream, kind)
    return stream.getvalue()


class Pictures:
    """Writes pictures that all differ."""

    def __init__(self, side=48):
        self.side, self.count = side, 0

    def __call__(self, path):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.count += 1
        path.write_bytes(encoded(self.count, "PNG" if path.suffix == ".png" else "JPEG", self.side))


def text(path, *lines):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rafdb(root, kind="aligned"):
    write, lines = Pictures(), []
    for part in ("train", "test"):
        for number in range(1, 15):
            lines.append(f"{part}_{number:05d}.jpg {(number - 1) % 7 + 1}")
            mark = "_aligned" if kind == "aligned" else ""
            write(root / "basic/Image" / kind / f"{part}_{number:05d}{mark}.jpg")
    text(root / "basic/EmoLabel/list_patition_label.txt", *lines)


def rafdb_original(root):
    rafdb(root, "original")


def rafdb_mirror(root):
    write = Pictures()
    for part in ("train", "test"):
        for label in range(1, 8):
            for number in range(2):
                write(root / f"DATASET/{part}/{label}/{part}_{2 * label + number:05d}_aligned.jpg")


def rafau(root):
    write = Pictures()
    text(root / "RAFAU_label.txt", "0001.jpg 4+25+L12 ", "0002.jpg null", "0003.jpg 6+12+R10", *(
        f"{number:04d}.jpg 1+2+5+26" for number in range(4, 13)
    ))  # fmt: skip
    for number in range(1, 13):
        write(root / f"aligned/{number:04d}_aligned.jpg")


def votes_of(number):
    """Ten votes, most of them for emotion `number` of VOTES."""
    row = [0] * 10
    row[number % 8] = 7
    row[(number + 1) % 8] += 1
    row[8] = 2
    return row


USAGES = ("Training", "PublicTest", "PrivateTest")


def ferplus_pixels(root):
    votes, pixels = ["Usage,Image name," + ",".join(VOTES)], ["emotion,pixels,Usage"]
    rng = np.random.default_rng(0)
    for number in range(24):
        usage = USAGES[number // 8]
        votes.append(f"{usage},fer{number:07d}.png," + ",".join(map(str, votes_of(number))))
        pixels.append("0," + " ".join(map(str, rng.integers(0, 256, 48 * 48))) + f",{usage}")
    votes.append("Training,,0,0,0,0,0,0,0,0,0,10")  # no face: no name
    pixels.append("0," + " ".join(["0"] * 48 * 48) + ",Training")
    text(root / "fer2013new.csv", *votes)
    text(root / "fer2013.csv", *pixels)


def ferplus_pictures(root):
    write = Pictures()
    for part, folder in enumerate(("FER2013Train", "FER2013Valid", "FER2013Test")):
        rows = []
        for number in range(8):
            name = f"fer{8 * part + number:07d}.png"
            write(root / folder / name)
            rows.append(f'{name},"(0, 0, 48, 48)",' + ",".join(map(str, votes_of(number))))
        text(root / folder / "label.csv", *rows)


def ferplus_folders(root):
    write = Pictures()
    for part, folder in enumerate(("train", "valid", "test")):
        for number, emotion in enumerate(EMOTIONS):
            write(root / folder / emotion / f"fer{8 * part + number:07d}.png")


def affectnet_csv(root):
    write = Pictures(64)
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    for part, name in enumerate(("training", "validation")):
        rows = [head]
        for number in range(11):
            path = f"{part}/{part}{number:03d}.jpg"
            rows.append(f"{path},4,5,50,51,1.0;2.0,{number},{number / 20},-0.25")
            write(root / "Manually_Annotated" / path)
        text(root / f"{name}.csv", *rows)


def affectnet_npy(root):
    write = Pictures()
    for part in ("train", "val"):
        for number in range(8):
            write(root / f"{part}_set/images/{number}.jpg")
            (root / f"{part}_set/annotations").mkdir(exist_ok=True)
            for ending, value in (("exp", str(number)), ("val", "-0.5"), ("aro", "0.25")):
                np.save(root / f"{part}_set/annotations/{number}_{ending}.npy", np.array(value))


def sfew(root):
    write = Pictures(64)
    for part in ("Train", "Val"):
        for emotion in SFEW:
            for number in range(2):
                write(root / f"{part}_Aligned_Faces/{emotion}/film_{number}.png")


def ferbench(root):
    """FERBench: RAF-DB and FERPlus with the benchmark's lists, AffectNet and SFEW as official folders alone."""
    rafdb(root / "RAF-DB"), ferplus_folders(root / "FERPlus"), affectnet_csv(root / "AffectNet")
    sfew(root / "SFEW-2.0")
    sets = {
        "rafdb": [(f"/RAF-DB/aligned/test_{n:05d}_aligned.jpg", RAF[n - 1], RAF) for n in range(7, 0, -1)],
        "ferplus": [(f"/FERPlus/test/{emotion}/fer{16 + n:07d}.png", label, FERPLUS)
                    for n, (emotion, label) in enumerate(zip(EMOTIONS, SHORT, strict=True))],
    }  # fmt: skip
    for name, items in sets.items():
        records = [{"image_path": path, "true_label": label, "prompt": f"Which of {', '.join(labels)} is it?",
                    "candidate_labels": list(labels)} for path, label, labels in items]  # fmt: skip
        text(root / f"eval_{name}/data/{name}_qa.json", json.dumps(records))


def intensities(frame):
    """Intensities of DISFA's twelve units: AU6 and AU12 at 3 in every other frame, AU25 at 1."""
    return {**dict.fromkeys(DISFA_AUS, 0), **({6: 3, 12: 3, 25: 1} if frame % 2 else {})}


def disfa_labels(root, subjects=("SN001", "SN002", "SN003", "SN004"), frames=6):
    for subject in subjects:
        for unit in DISFA_AUS:
            rows = [f"{frame},{intensities(frame)[unit]}" for frame in range(1, frames + 1)]
            text(root / f"ActionUnit_Labels/{subject}/{subject}_au{unit}.txt", *rows)


def disfa(root, subjects=("SN001", "SN002", "SN003", "SN004"), frames=6):
    write = Pictures(64)
    disfa_labels(root, subjects, frames)
    for subject in subjects:
        for frame in range(1, frames + 1):
            write(root / f"Images/{subject}/{frame}.jpg")


def disfa_videos(root):
    import cv2

    disfa_labels(root)
    for subject in ("SN001", "SN002", "SN003", "SN004"):
        writer = cv2.VideoWriter(
            str(root / f"LeftVideo{subject}_comp.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 64)
        )
        for frame in range(1, 7):
            writer.write(np.full((64, 64, 3), 40 * frame, np.uint8))
        writer.release()


def disfa_plus(root):
    write = Pictures(64)
    for subject in ("SN001", "SN003", "SN004"):
        for trial in ("A1_AU1_TrialNo_1", "B2_TrialNo_2"):
            for unit in DISFA_AUS:
                rows = [f"{frame:03d}.jpg     {intensities(frame)[unit]}" for frame in range(4)]
                text(root / f"Labels/{subject}/{trial}/AU{unit}.txt", f"AU{unit}", "frames     intensity", *rows)
            for frame in range(4):
                write(root / f"Images/{subject}/{trial}/{frame:03d}.jpg")


def bp4d(root):
    write = Pictures(64)
    units = [*range(1, 100)]
    for subject in ("F001", "F002", "M001"):
        for task in ("T1", "T2"):
            rows = ["frame," + ",".join(map(str, units))]
            for frame in range(1, 5):
                codes = [1 if unit in (6, 12) else 0 if unit < 30 else 9 for unit in units]
                if frame == 4:
                    codes[units.index(24)] = 9
                rows.append(f"{frame}," + ",".join(map(str, codes)))
                write(root / f"2D/{subject}/{task}/{frame:04d}.jpg")
            text(root / f"AUCoding/AU_OCC/{subject}_{task}.csv", *rows)


def facial_expressions(root):
    write, rows = Pictures(64), ["user.id,image,emotion"]
    for person in range(30):
        for number, emotion in enumerate(("neutral", "HAPPINESS")):
            name = f"Person{chr(65 + person % 26)}{person}_{number + 1:04d}.jpg"
            rows.append(f"302,{name},{emotion}")
            write(root / "images" / name)
    text(root / "data/legend.csv", *rows)


def folders(root):
    write = Pictures(64)
    for part in ("train", "test"):
        for emotion in EMOTIONS:
            write(root / part / emotion / f"{part}1.jpg")


def saved_table(root, split_counts=(("train", 8), ("test", 8))):
    import datasets

    write, parts = Pictures(64), {}
    for part, count in split_counts:
        rows = {"photo": [], "emotion": [], "who": [], "units": []}
        for number in range(count):
            write.count += 1
            rows["photo"].append({"bytes": encoded(write.count, "PNG", 64), "path": None})
            rows["emotion"].append(number % 8)
            rows["who"].append(f"{part}{number}")
            rows["units"].append(["AU6", "AU12"] if number % 2 else [])
        features = datasets.Features({
            "photo": datasets.Image(), "emotion": datasets.ClassLabel(names=list(EMOTIONS)),
            "who": datasets.Value("string"), "units": datasets.Sequence(datasets.Value("string")),
        })  # fmt: skip
        parts[part] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(root), num_proc=None)


def fresh(base, build):
    """Build a tree in a new folder."""
    root = Path(base) / build.__name__
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    build(root)
    return root
