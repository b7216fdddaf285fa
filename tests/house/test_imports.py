"""What importing loads, and which module may import what."""

import ast
import configparser
import subprocess
import sys

import pytest
from helpers import ROOT

from actfer_env._moved import RENAMED

HEAVY = {"torch", "transformers", "verl", "insightface", "onnxruntime", "matplotlib", "openai"}
FOLDERS = ("actfer_env", "agents", "wrappers")
PURE = ("facs.py", "episode.py", "rollout.py", "errors.py", "tools", "rewards")
FORBIDDEN = HEAVY | {"gymnasium", "stable_baselines3"}


def modules(name):
    path = ROOT / "actfer_env" / name
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def top_level_imports(path):
    """Names imported when the module is imported: not those inside functions or under TYPE_CHECKING."""
    names, blocks = set(), [ast.parse(path.read_text()).body]
    while blocks:
        for node in blocks.pop():
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
            elif isinstance(node, (ast.ClassDef, ast.Try)):
                blocks.append(node.body)
    return names


def test_importing_the_package_loads_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-c", "import actfer_env"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in log.splitlines()}
    assert "gymnasium" in loaded and not loaded & HEAVY


@pytest.mark.parametrize("path", [path for name in PURE for path in modules(name)], ids=lambda p: p.name)
def test_the_core_is_free_of_frameworks(path):
    names = top_level_imports(path)
    assert not {name.split(".")[0] for name in names} & FORBIDDEN
    assert not [name for name in names if name.startswith("actfer_env.envs")]


def test_setup_cfg_lists_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = (path.parent.relative_to(ROOT) for name in FOLDERS for path in (ROOT / name).rglob("__init__.py"))
    found = {".".join(folder.parts) for folder in folders}
    assert listed == {name if name.startswith("actfer_env") else f"actfer_env.{name}" for name in found}


def test_help_loads_nothing_heavy_and_no_image_library():
    code = "import sys, actfer_env.cli; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & (HEAVY | {"cv2", "skimage", "PIL"})


@pytest.mark.parametrize("module", RENAMED)
def test_definitions_are_found_under_their_old_names(module):
    found = pytest.importorskip(module, reason="needs an extra of the package", exc_type=ImportError)
    for old, new in RENAMED[module].items():
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            assert getattr(found, old) is getattr(found, new)
    with pytest.raises(AttributeError, match="no attribute 'never_was'"):
        found.never_was  # noqa: B018
