"""Modules and classes under the names that they had in version 0.1, for code and pickles of that time."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

MOVED = {
    "actfer_env.env": "actfer_env.envs.face",
    "actfer_env.chat.env": "actfer_env.envs.chat",
    "actfer_env.chat.parse": "actfer_env.chat.parsing",
    "actfer_env.chat.dialects": "actfer_env.chat.parsing.dialects",
    "actfer_env.actions": "actfer_env.envs.actions",
    "actfer_env.observation": "actfer_env.envs.observations",
    "actfer_env.choice": "actfer_env.envs.reset",
    "actfer_env.render": "actfer_env.envs.panel",
    "actfer_env.registration": "actfer_env.envs.registration",
    "actfer_env.data.sample": "actfer_env.sample",
    "actfer_env.data.splits": "actfer_env.splits",
    "actfer_env.data.gallery": "actfer_env.data.synthetic.gallery",
    "actfer_env.data.disk": "actfer_env.data.synthetic.disk",
    "actfer_env.data.faces": "actfer_env.data.synthetic.faces",
    "actfer_env.data.parquet": "actfer_env.verl_plugin.rows",
    "actfer_env.tools.image": "actfer_env.images",
    "actfer_env.tools.cache": "actfer_env.tools.face_tools",
    "actfer_env.runner": "actfer_env.evaluation.play",
    "actfer_env.rewards.presets": "actfer_env.rewards.other_papers",
    "actfer_env.agents.qwen_vl": "actfer_env.agents.qwen.agent",
    "actfer_env.agents.tiny_qwen": "actfer_env.agents.qwen.tiny",
    "actfer_env.agents.quick_vision": "actfer_env.agents.qwen.fast_vision",
    "actfer_env.agents.torchvision_guard": "actfer_env.agents.qwen.torchvision_guard",
    "actfer_env.agents.conversation": "actfer_env.agents.qwen.conversation",
    "actfer_env.agents.drawing": "actfer_env.agents.qwen.sampling",
    "actfer_env.agents.openai_chat": "actfer_env.agents.endpoint",
    "actfer_env.agents.light.views": "actfer_env.data.views",
    "actfer_env.agents.prepare": "actfer_env.prepare",
}
"""Old name -> new name."""
RENAMED = {
    "actfer_env.agents.qwen.conversation": {"Codec": "TokenCodec"},
    "actfer_env.agents.qwen.fast_vision": {"quicken": "use_fast_vision"},
    "actfer_env.agents.qwen.sampling": {"drawing": "sampling_chain"},
    "actfer_env.envs.observations": {"Copier": "BufferPool"},
}
"""Module -> old name of what it defines -> new name; the module says ``__getattr__ = old_names(__name__)``."""


def new_name(name: str) -> str | None:
    """Return a module's name of today, or None where it never moved."""
    for old, new in MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return None


def old_names(module: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module, which finds its renamed definitions with a DeprecationWarning."""

    def find(name: str) -> Any:
        new = RENAMED[module].get(name)
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {new}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], new)

    return find


class _MovedFinder(MetaPathFinder, Loader):
    """Finds a moved module under its old name: the same module object, with a DeprecationWarning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("actfer_env."):
            return None
        return ModuleSpec(fullname, self) if new_name(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = new_name(spec.name)
        assert new is not None
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = import_module(new)
        self._own = module.__spec__  # the import system is about to put the old name's in its place
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the module's code, for `python -m` with an old name."""
        spec = find_spec(new_name(fullname) or fullname)
        return spec.loader.get_code(spec.name) if spec and isinstance(spec.loader, InspectLoader) else None


def install() -> None:
    """Add the finder before Python's own, once: a moved package would otherwise be searched for its modules again."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MovedFinder())
