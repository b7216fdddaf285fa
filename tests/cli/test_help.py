"""The command line's help, version and flags."""

import os
import re
import subprocess
import sys

import pytest
import typer

from actfer_env import __version__
from actfer_env.cli import app


def commands(command=None, path=()):
    """Yield each command with the words that call it."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


ALL = list(commands())


def helped(path, columns):
    environment = {"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)}
    code = "import os, sys; os.environ.update(eval(sys.argv.pop(1))); from actfer_env.cli import main; main()"
    command = [sys.executable, "-c", code, repr(environment), *path, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("path", "command"), [one for one in ALL if one[0] in ((), ("eval",), ("train",))], ids=str)
def test_help_at_eighty_columns_shows_every_option_whole(path, command):
    text = helped(path, 80)
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    for parameter in command.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE), name


@pytest.mark.parametrize(("path", "command"), ALL, ids=str)
def test_a_flag_is_turned_on_by_one_name_and_has_no_odd_opposite(path, command):
    for parameter in command.params:
        for name in parameter.secondary_opts:
            assert name.startswith("--no-") and not name.startswith("--no-no-"), (path, name)
            assert parameter.default is True, f"{name}: what is off already needs no option that turns it off"


def test_the_version_is_told():
    done = subprocess.run([sys.executable, "-m", "actfer_env", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"actfer {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["rollout", "synthetic", "-n", "1", "--agent", "wizard"],
        ["rollout", "synthetic", "-n", "1", "--detector", "psychic"],
        ["eval", "synthetic", "-n", "1", "--model", "./nowhere", "--endpoint", "http://localhost:9/v1"],
        ["data", "precompute", "synthetic", "-n", "1", "--detector", "psychic"],
        ["data", "verl", "portrait", "--images", "path"],
    ],
)
def test_a_command_that_fails_leaves_no_folder_and_no_bar(tmp_path, arguments):
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep = lambda seconds: None  # between tries\n")
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "actfer_env", *arguments, "--out", str(out / "a" / "b")]
    surroundings = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and done.stderr.startswith("actfer: ")
    assert not list(out.iterdir())
