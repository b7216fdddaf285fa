"""What the README and the docstrings show really runs."""

import configparser
import doctest
import importlib
import io
import pkgutil
import re
import shlex
import sys
import warnings

import pytest
from helpers import ROOT
from PIL import Image
from skimage.data import astronaut
from typer.main import get_command

import actfer_env
from actfer_env import plugins
from actfer_env.cli import app

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def module_names():
    return sorted(m.name for m in pkgutil.walk_packages(actfer_env.__path__, "actfer_env.") if "__main__" not in m.name)


@pytest.mark.parametrize("name", module_names())
def test_docstring_examples(name):
    if ".verl_plugin." in name:
        pytest.importorskip("verl", reason="needs verl: pip install 'actfer-env[verl]'")
    for door, package in (
        ("openenv.", "openenv"),
        ("trl.served", "openenv"),
        ("inspect", "inspect_ai"),
        ("verifiers", "verifiers"),
    ):
        if f".integrations.{door}" in name:
            pytest.importorskip(package, reason="needs an extra in an environment of its own")
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


FOLDERS = ("docs", "examples/verl_grpo", "benchmarks")
PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += sorted(f"{folder}/{path.name}" for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)```", re.DOTALL)
SMALL = {"demo": {"number": 4}, "data": {"gallery": {"size": 64, "people": 2}}}  # what is drawn by default
PLUGIN = """
from actfer_env.tools import make_detector, register_detector
register_detector("mine", lambda: make_detector("mtcnn"))
"""


def blocks_of(page):
    """The python and bash blocks of a page; a comment before one says why it is not run."""
    found = FENCE.finditer((ROOT / page).read_text(encoding="utf-8"))
    return [(one["kind"], one["text"], one["reason"]) for one in found if one["kind"] in ("python", "bash")]


def commands_of(text):
    """The words of each command of a bash block, without comments and variables."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()]
    for part in (part for line in lines for part in line.split("&&")):
        words = shlex.split(part)
        while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] == "..."):
            words = words[1:]
        if words:
            yield words[: words.index(">")] if ">" in words else words


def check_words(words):
    """Whether a command could be called as it is printed: its options, scripts and extras are there."""
    head, rest = words[0], words[1:]
    if head == "actfer":
        command, context = get_command(app), None
        while True:
            context = command.make_context(head, rest, parent=context)
            rest = [*getattr(context, "_protected_args", ()), *context.args]
            if not hasattr(command, "resolve_command"):
                return
            head, command, rest = command.resolve_command(context, rest)
    elif head == "pip":
        extras = {name for word in rest for name in re.findall(r"\[(\w+)\]", word)}
        assert extras <= set(SETUP["options.extras_require"])
        assert all((ROOT / word).exists() for word in rest if word.endswith(".txt"))
    elif head == "python":
        assert rest[0] == "-m" or (ROOT / rest[0]).exists()
    else:
        others = ("pytest", "pre-commit", "ray", "docker", "openenv", "inspect", "vf-eval")
        assert head in others or (ROOT / head).exists()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_can_be_called(page):
    for kind, text, _ in blocks_of(page):
        for words in commands_of(text) if kind == "bash" else ():
            check_words(words)


def test_a_command_that_cannot_be_called_is_noticed():
    for text in ("actfer rollout x --no-such-option", "actfer nothing", "actfer demo -n none", "python nowhere.py"):
        (words,) = commands_of(text)
        with pytest.raises(Exception, match=r"."):
            check_words(words)


@pytest.fixture
def nothing_stays_registered():
    kept = {group: dict(registry._known) for group, registry in plugins._registries.items()}
    yield
    for group, known in kept.items():
        plugins._registries[group]._known = known


def needs(page):
    if page == "docs/vector.md":
        pytest.importorskip("sb3_contrib", reason="needs the extra sb3")
        import torch

        torch.set_num_threads(1)


@pytest.mark.parametrize("page", [page for page in PAGES if any(not why for _, _, why in blocks_of(page))])
@pytest.mark.usefixtures("nothing_stays_registered")
def test_every_block_of_a_page_runs_as_printed(page, tmp_path, monkeypatch, capsys):
    """In order, in one folder and with one set of names; of bash, the calls of actfer."""
    needs(page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "stdin", io.StringIO("d\nz mouth\na happiness 6 12\n" * 10))  # for `actfer play`
    monkeypatch.setenv("ACTFER_IMPORT", "")
    (tmp_path / "my_photos").mkdir()
    (tmp_path / "my_detectors.py").write_text(PLUGIN)
    for path in ("photo.jpg", "my_photo.jpg", "my_photos/photo.jpg"):
        Image.fromarray(astronaut()[:256, 96:352]).save(tmp_path / path)
    names: dict = {}
    for kind, text, reason in blocks_of(page):
        if reason:
            continue
        if kind == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(compile(text, page, "exec"), names)
            continue
        for words in commands_of(text):
            if words[0] == "actfer":
                assert not app(words[1:], standalone_mode=False, default_map=SMALL)
    monkeypatch.delitem(sys.modules, "my_detectors", raising=False)
    if page == "README.md":
        printed = capsys.readouterr().out
        assert "detect_align {'faces': 1" in printed and "zoom_in {'crops'" in printed and "'utility'" in printed


def test_the_contributors_page_names_files_that_are_there_and_three_at_most():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:[\w.]+/)+(?:[\w.]+)?)`", text)
    assert len(paths) > 20 and not [path for path in paths if not (ROOT / path).exists() and "*" not in path]
    (table,) = re.findall(r"\| you want to \| touch \|\n.*?\n\n", text, re.DOTALL)
    files = [re.findall(r"`[\w./]+/[\w.]*`", line) for line in table.splitlines()[2:] if line]
    assert files and all(1 <= len(names) <= 2 for names in files)  # and a test beside them


def test_every_link_of_a_page_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8")):
            assert target.startswith("http") or ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_blocks_that_are_not_run_say_why():
    reasons = [reason for page in PAGES for _, _, reason in blocks_of(page) if reason]
    assert all(
        re.search(r"minutes|hours|GPU|model|server|authors|trained|environment of its own", reason)
        for reason in reasons
    )


def test_the_readme_names_every_id_and_every_detector():

    from actfer_env.envs.registration import IDS
    from actfer_env.tools.detectors import available_detectors

    text = (ROOT / "README.md").read_text()
    assert all(name in text for name in IDS)
    assert all(status.name in text for status in available_detectors() if status.detail != "registered by other code")


def test_nothing_names_a_machine():
    folders = ("actfer_env", "agents", "wrappers", "examples", "tests", "benchmarks", "docs")
    files = [*ROOT.glob("*.*"), *(path for name in folders for path in (ROOT / name).rglob("*"))]
    texts = [path for path in files if path.suffix in (".py", ".md", ".cfg", ".toml", ".cff", ".j2", ".css", ".js")]
    banned = ("/work" + "/", "/root" + "/")
    assert not [path for path in texts if any(word in path.read_text(encoding="utf-8") for word in banned)]


def test_the_constraints_agree_with_what_the_verl_example_was_run_with():
    def pins(path):
        return dict(line.split("==") for line in (ROOT / path).read_text().splitlines() if "==" in line)

    example, ours = pins("examples/verl_grpo/requirements-cpu.txt"), pins("constraints.txt")
    assert {"torch", "torchvision", "verl"} <= ours.keys()
    assert all(example[name] == version for name, version in ours.items())
