"""Memory and seconds that it takes to index a data set of a million pictures, and to search a million hashes.

    python benchmarks/data_index.py [--rows 1000000] [--look]

Seconds are of CPU time. The list is made up in AffectNet's CSV format, and no picture is there (`missing="keep"`);
with `--look` the pictures are links to one file, and the loader looks for each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from machine import private, resident

from actfer_env.data import load_dataset
from actfer_env.data.duplicates import near_pairs

COLUMNS = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def write_list(folder: Path, rows: int) -> None:
    """Write training.csv with hashed names, as AffectNet's."""
    rng = np.random.default_rng(0)
    with (folder / "training.csv").open("w", encoding="ascii") as handle:
        handle.write(COLUMNS + "\n")
        for row in range(rows):
            name = rng.bytes(28).hex()
            handle.write(f"{row % 1000}/{name}.jpg,10,12,200,201,1.5;2.5,{row % 8},0.25,-0.5\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--look", action="store_true", help="Make the files, and look for each.")
    options = parser.parse_args()
    rows, look = options.rows, options.look
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_list(folder, rows)
        if look:
            (folder / "one.jpg").touch()
            for number in range(1000):
                (folder / str(number)).mkdir()
            with (folder / "training.csv").open(encoding="ascii") as handle:
                next(handle)
                for line in handle:
                    (folder / line.split(",")[0]).hardlink_to(folder / "one.jpg")
        before, own, start = resident(), private(), time.process_time()
        dataset = load_dataset("affectnet", folder, "train", totals="ignore", missing="raise" if look else "keep")
        seconds = time.process_time() - start
        print(f"index of {len(dataset):,} rows: {seconds:.1f} s, {private() - own:.0f} MB of its own, "
              f"{resident() - before:.0f} MB with the pages of its file")  # fmt: skip
        places = np.random.default_rng(1).integers(0, rows, 2000)
        start = time.process_time()
        names = [dataset[int(place)].id for place in places]
        print(f"a sample at random: {(time.process_time() - start) / len(places) * 1e6:.0f} us")
        start = time.process_time()
        assert [dataset.find(name) for name in names] == places.tolist()
        print(f"the index of an id: {(time.process_time() - start) / len(places) * 1e6:.0f} us")
        start = time.process_time()
        count = sum(1 for _ in dataset)
        print(f"all samples in order: {count / (time.process_time() - start):,.0f} a second")
    hashes = np.unique(np.random.default_rng(2).integers(0, 2**64, rows, dtype=np.uint64))
    start = time.process_time()
    for _ in near_pairs(hashes, 4):
        pass
    print(f"near pairs among {len(hashes):,} hashes: {time.process_time() - start:.1f} s")


if __name__ == "__main__":
    main()
