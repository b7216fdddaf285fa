"""The journal: lines that outlive a killed process, and files that are not journals."""

import json
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actfer_env.errors import DataError
from actfer_env.files import Journal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8,
)  # fmt: skip
RECORDS = st.lists(st.builds(lambda value: {"schema": 1, "value": value}, VALUES), max_size=6)


def journal(path, **options):
    return Journal(path, dict, **options)


def by_id(record):
    return record["id"]


@given(records=RECORDS, cut=st.integers(0, 10_000))
def test_what_was_appended_is_read_back_wherever_the_file_was_cut(tmp_path_factory, records, cut):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    for record in records:
        journal(path, sync=False).append(record)
    content = path.read_bytes() if records else b""
    cut = min(cut, len(content))
    path.write_bytes(content[:cut])
    found = journal(path).read()
    whole = content[:cut].count(b"\n")
    assert found in (records[:whole], records[: whole + 1]), "the last one lacks no more than its end"
    journal(path).append({"schema": 1, "value": "next"})
    assert journal(path).read() == [*found, {"schema": 1, "value": "next"}]
    assert path.read_bytes().count(b"\n") == len(found) + 1


def test_a_missing_file_is_an_empty_journal_and_reading_makes_none(tmp_path):
    assert journal(tmp_path / "a" / "j.jsonl").read() == []
    assert not list(tmp_path.iterdir())


def test_a_key_is_kept_once_the_first_time(tmp_path):
    path = tmp_path / "j.jsonl"
    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        journal(path).append({"id": name, "value": value})
    assert [one["value"] for one in journal(path, key=by_id, first="id").read()] == [1, 2]
    assert path.read_text() == '{"id": "a", "value": 1}\n{"id": "b", "value": 2}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no newline at the end", "holds something else"),
        ("a note\nand more\n", r"line 1: .*delete the line, or choose another file"),
        ('{"schema": 1}\n[5]\n{"sch', "line 2: "),
        ('{"other": 1', "holds something else"),
        ('{"schema": 1}\n{"schema": 2}\n{"broken\n', "line 3: "),
        ('{"schema": 1}\n' + "[" * 100_000 + "\n", "line 2: "),
    ],
)
def test_another_file_is_named_and_stays_as_it_is(tmp_path, content, message):
    path = tmp_path / "notes"
    path.write_text(content)

    def parse(record):
        if not isinstance(record, dict):
            raise ValueError("no object")
        return record

    with pytest.raises(DataError, match=message) as caught:
        Journal(path, parse).read()
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert path.read_text() == content


def test_a_folder_in_the_place_of_the_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*Is a directory"):
        journal(tmp_path).read()
    with pytest.raises(DataError, match="cannot write"):
        journal(tmp_path).append({})


def test_numbers_that_json_does_not_know_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        journal(tmp_path / "j").append({"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_bad_byte_spoils_no_other_line(tmp_path):
    (tmp_path / "j").write_bytes(b'{"schema": "\xff"}\n{"schema": "\xc3\xa9\\ud83d"}\n')
    assert [one["schema"] for one in journal(tmp_path / "j").read()] == ["\udcff", "é\ud83d"]


KILLED = """
import os, sys
from actfer_env.files import Journal
journal = Journal(sys.argv[1], dict)
for number in range(50):
    journal.append({"schema": number})
os._exit(9)
"""


def test_lines_outlive_the_process(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "j"], check=False)
    assert done.returncode == 9
    assert journal(tmp_path / "j").read() == [{"schema": number} for number in range(50)]


def test_threads_append_whole_lines(tmp_path):
    def work(name):
        for number in range(50):
            journal(tmp_path / "j", sync=False).append({"schema": 1, "id": f"{name}-{number}", "fill": "x" * 500})

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one["id"] for one in journal(tmp_path / "j").read()}) == 200
    assert all(json.loads(line) for line in (tmp_path / "j").read_text().splitlines())


def test_a_link_stays_one_when_the_file_is_mended(tmp_path):
    (tmp_path / "real").write_text('{"schema": 1}\n{"sch')
    (tmp_path / "j").symlink_to(tmp_path / "real")
    assert journal(tmp_path / "j").read() == [{"schema": 1}]
    assert (tmp_path / "j").is_symlink() and (tmp_path / "real").read_text() == '{"schema": 1}\n'
