"""What the README and the docstrings show really runs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from PIL import Image
from skimage.data import astronaut

import actfer_env
from actfer_env.data import load_dataset
from actfer_env.evaluation import write_run
from actfer_env.runner import RolloutConfig, play

ROOT = Path(__file__).parents[1]


def module_names():
    return sorted(m.name for m in pkgutil.walk_packages(actfer_env.__path__, "actfer_env.") if "__main__" not in m.name)


@pytest.mark.parametrize("name", module_names())
def test_docstring_examples(name):
    if ".verl_plugin." in name:
        pytest.importorskip("verl", reason="needs verl: pip install 'actfer-env[verl]'")
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_every_python_block_of_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_photos").mkdir()
    for path in ("photo.jpg", "my_photos/photo.jpg"):
        Image.fromarray(astronaut()).save(tmp_path / path)
    write_run(tmp_path / "out", play(load_dataset("portrait"), RolloutConfig(number=2)))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert "task" in capsys.readouterr().out


def test_the_readme_names_every_id_and_every_detector():

    from actfer_env.registration import IDS
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
