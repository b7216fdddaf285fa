"""SFEW 2.0."""

from __future__ import annotations

from collections.abc import Iterator

from actfer_env import facs
from actfer_env.data.loaders.base import (
    Edition,
    Info,
    Missing,
    Row,
    RowSamples,
    Totals,
    collect,
    described,
    first_folder,
    join,
    no_layout,
    open_root,
    pictures_in,
    refuse,
    subfolders,
)
from actfer_env.errors import DataError

ORDER = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
"""SFEW's class folders, Angry to Surprise, in alphabetical order."""
SFEW = Info(
    "sfew", "SFEW 2.0", "Train_Aligned_Faces/Angry ... and Val_Aligned_Faces/Angry ...",
    ("*_Aligned_Faces*", "*/*_Aligned_Faces*"),
    "https://users.cecs.anu.edu.au/~few_group/AFEW.html (research; a signed form)",
)  # fmt: skip
_FOLDERS = {
    "train": ("Train_Aligned_Faces", "Train/Train_Aligned_Faces"),
    "val": ("Val_Aligned_Faces", "Val_Aligned_Faces_new", "Val/Val_Aligned_Faces", "Val/Val_Aligned_Faces_new"),
}
_WHOLE = {"train": ("Train",), "val": ("Val",)}


@described(SFEW)
def load_sfew(
    root: str | None, *, split: str | None = None, totals: Totals = "auto", missing: Missing = "raise"
) -> RowSamples:
    """Read the data set "sfew": SFEW 2.0, film stills, seven emotions.

    Editions: "aligned faces" (143 x 181 pixels; 431 in val) and "whole stills" (Train/ and Val/ with class folders; 958
    and 436). Splits are train and val; the labels of the test split are not public. Official numbers of the classes
    and of the aligned training faces could not be verified and are not compared.

    Args:
        root: The folder with Train_Aligned_Faces/ and Val_Aligned_Faces/ (also below Train/ and Val/).
        split: "train", "val", "auto", or None for both.
        totals: See `loaders.base.Totals`.
        missing: Takes the same values as that of other data sets; here pictures are found, not listed.

    Raises:
        DataError: another layout, or a class folder that SFEW does not have.
    """
    place = open_root(SFEW, root)
    if split == "test":
        raise DataError("SFEW 2.0's test labels are not public: use split='val', on which papers report")
    found = {part: first_folder(place, *names) for part, names in _FOLDERS.items()}
    edition = Edition("aligned faces", ORDER, totals={"val": {"all": 431}}, prealigned=True)
    if not any(found.values()):
        found = {part: first_folder(place, *names) for part, names in _WHOLE.items()}
        edition = Edition("whole stills", ORDER, totals={"train": {"all": 958}, "val": {"all": 436}})
    if not any(found.values()):
        no_layout(SFEW, place)

    def rows() -> Iterator[Row]:
        for part, base in found.items():
            for folder in subfolders(base) if base else ():
                try:
                    emotion = facs.parse_emotion(folder.name)
                except ValueError:
                    emotion = ""
                if emotion not in ORDER:
                    refuse(folder, None, f"SFEW has no class {folder.name!r}; its folders are Angry, Disgust, Fear, "
                           "Happy, Neutral, Sad, Surprise")  # fmt: skip
                for name in pictures_in(folder):
                    yield Row(f"{part}/{folder.name}/{name}", join(folder, name), emotion, split=part)

    return collect(SFEW, edition, rows(), split, totals, missing)
