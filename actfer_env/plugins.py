"""Detectors, data sets, agents and tools by name: those that come along, those that code registers, those of plug-ins.

What other code brings reaches every process in one of three ways:

- *Entry points* of an installed distribution, in the groups `actfer_env.detectors`, `actfer_env.datasets`,
  `actfer_env.agents` and `actfer_env.tools`: the entry point's name is the name, what it points to is what would be
  registered. They are looked up when a name is unknown, and when all names are listed.
- *A module that registers* when it is imported: `actfer --import MODULE ...`, or the environment variable
  `ACTFER_IMPORT` with names separated by commas, which child processes inherit.
- *A call* of `register_detector`, `register_dataset`, `register_agent` or `register_tool`: it is sent along to
  processes that `multiprocessing` starts (those of `GroupVectorEnv`, of gymnasium's `AsyncVectorEnv` and of
  Stable-Baselines3's `SubprocVecEnv` among them), and to the workers of this package's own commands.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from actfer_env.errors import ActFERError, PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
VARIABLE = "ACTFER_IMPORT"
"""The environment variable that names modules to import, separated by commas."""
CURE = f"name the module that registers yours: actfer --import MODULE ..., or {VARIABLE}=MODULE"

_lock = threading.RLock()
_registries: dict[str, Registry[Any]] = {}
_received: dict[str, dict[str, bytes | str]] = {}
"""Group -> name -> what another process has sent and nobody has asked for yet."""
_state: dict[str, Any] = {"changes": 0, "luggage": b"", "imported": ""}


class _Place(NamedTuple):
    """Place of a value that is not imported yet."""

    module: str
    attribute: str


class Registry(Mapping[str, T], Generic[T]):
    """Registry by name; a mapping that looks for plug-ins when a name is unknown or all are listed.

    Args:
        kind: Kind of thing that it holds, for messages, such as "detector".
        group: The group of entry points.
        error: The class of errors about names.
    """

    def __init__(self, kind: str, group: str, error: type[ActFERError]) -> None:
        self.kind, self.group, self._error = kind, group, error
        self._known: dict[str, T | _Place] = {}
        self._built_in: dict[str, T | _Place] = {}
        self._plugged: dict[str, T] = {}
        self._broken: dict[str, str] = {}
        _registries[group] = self

    def register(self, name: str, value: T, *, replace: bool = False) -> None:
        """Make a value known by name.

        Raises:
            ActFERError: the name is taken or holds a colon, as the registry's class of errors.
        """
        if ":" in name:
            raise self._error(f"{self.kind} name {name!r} holds a colon, which separates name and argument")
        if name in self._known and not replace:
            raise self._error(f"{self.kind} {name!r} is registered already: pass replace=True to replace it")
        self._known[name] = value
        if self._built_in:  # what comes along is registered before, and another process may have replaced it
            _received.get(self.group, {}).pop(name, None)
            _state["changes"] = changes() + 1
            _send_along()

    def include(self, places: Mapping[str, str]) -> None:
        """Make known what comes with this package; each is imported when it is first asked for.

        Args:
            places: Name -> "module:attribute".
        """
        self._known |= {name: _Place(*place.split(":")) for name, place in places.items()}
        self.seal()

    def seal(self) -> None:
        """Note that what is known so far comes with this package, and needs no sending."""
        self._built_in = dict(self._known)

    def find(self, name: str) -> T:
        """Return the value of a name.

        Raises:
            ActFERError: it is unknown, or its plug-in is broken, as the registry's class of errors.
            PluginError: a module that `ACTFER_IMPORT` names cannot be imported.
        """
        try:
            return self[name]
        except KeyError:
            pass
        if name in self._broken:
            raise self._error(self._broken[name])
        raise self._error(f"unknown {self.kind} {name!r}: use one of {', '.join(sorted(self))}; or {CURE}")

    def added(self) -> dict[str, bytes | str]:
        """Return what code has registered here, pickled; a reason where that cannot be done."""
        mine = {name: value for name, value in self._known.items() if self._built_in.get(name) is not value}
        return {**{name: _packed(value) for name, value in mine.items()}, **_received.get(self.group, {})}

    def __getitem__(self, name: str) -> T:
        """Return the value of a name, loading a plug-in of that name if need be."""
        import_requested()
        if name in _received.get(self.group, {}):
            self._unpack(name)
        for place in (self._known, self._plugged):
            if name in place:
                value = place[name]
                if isinstance(value, _Place):
                    module = importlib.import_module(value.module)
                    value = self._known[name] = self._built_in[name] = getattr(module, value.attribute)
                return cast(T, value)
        for point in self._points(name=name):
            if self._load(point):
                return self._plugged[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """Give all names, plug-ins last."""
        import_requested()
        for point in self._points():
            if point.name not in self._known and point.name not in self._plugged:
                self._load(point)
        return iter(dict.fromkeys([*self._known, *_received.get(self.group, {}), *self._plugged]))

    def __len__(self) -> int:
        """Return the number of names."""
        return sum(1 for _ in self)

    def _points(self, name: str | None = None) -> Iterable[EntryPoint]:
        from importlib.metadata import entry_points  # it brings the modules of mail, which most starts do not need

        return entry_points(group=self.group) if name is None else entry_points(group=self.group, name=name)

    def _unpack(self, name: str) -> None:
        """Rebuild what another process has sent."""
        packed = _received[self.group][name]
        try:
            value = packed if isinstance(packed, str) else pickle.loads(packed)
        except Exception as error:
            value = f"{type(error).__name__}: {error}"
        if isinstance(value, str):
            raise self._error(
                f"{self.kind} {name!r} was registered in another process and cannot be sent to this one "
                f"({_line(value)}): {CURE}"
            )
        self._known[name] = value
        _received[self.group].pop(name, None)  # gone where its module registers when it is imported

    def _load(self, point: EntryPoint) -> bool:
        """Load a plug-in; a broken one is named once, in a warning."""
        if point.name in self._broken:
            return False
        where = f"plug-in {self.kind} {point.name!r} of the distribution {_distribution(point)}"
        try:
            value = point.load()
            if isinstance(value, ModuleType):  # which registers by itself
                value = self._known[point.name]
            if not callable(value):
                raise TypeError(f"{point.value} is not callable")
        except (Exception, SystemExit) as error:
            why = f"{point.value} registers no such name" if isinstance(error, KeyError) else _reason(error)
            self._broken[point.name] = f"the {where} cannot be used: {why}: update or uninstall it"
            warnings.warn(self._broken[point.name], stacklevel=2)
            return False
        self._plugged[point.name] = value
        return True


def request(module: str) -> None:
    """Import a module, and have child processes import it too.

    Raises:
        PluginError: it cannot be imported.
    """
    import_module(module)
    names = _names()
    if module not in names:
        os.environ[VARIABLE] = ",".join([*names, module])


def import_requested() -> None:
    """Import the modules that the environment variable names, unless that was done before.

    Raises:
        PluginError: one of them cannot be imported.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == _state["imported"]:
        return
    with _lock:
        before, _state["imported"] = _state["imported"], wanted  # a module that asks for names must not come here again
        try:
            for name in _names():
                import_module(name)
        except BaseException:
            _state["imported"] = before
            raise


def import_module(name: str) -> None:
    """Import a module that is installed or lies in the working folder.

    Raises:
        PluginError: it cannot be imported; one line.
    """
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise PluginError(f"{name!r} is no module's name: give one such as my_detectors, without '.py' or folders")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        why = f"there is none of that name, installed or in {here}" if missing else _reason(error)
        raise PluginError(f"module {name!r} cannot be imported: {why}") from error


def changes() -> int:
    """Return a number that changes whenever names may stand for something else, for keys of caches."""
    return int(_state["changes"])


class Carrying:
    """A function that takes along what is registered here, for workers that `multiprocessing` does not start.

    Args:
        function: Function that the worker shall call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._luggage, self._home = function, _luggage(), os.getpid()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        if os.getpid() != self._home:
            _receive(self._luggage)
        return self._function(*args, **kwargs)


def parallel(
    function: Callable[..., T], arguments: Iterable[Sequence[Any]], workers: int, **options: Any
) -> Iterator[T]:
    """Yield what a function returns for each of some arguments, in their order, from processes that know what is
    registered here.

    Args:
        function: Function or `partial` that can be pickled.
        arguments: Its positional arguments, one sequence a call; taken a few calls ahead.
        workers: Processes; 1 calls it here.
        options: Further arguments of `joblib.Parallel`.
    """
    from joblib import Parallel, delayed

    make = delayed(Carrying(function))
    # loky takes pictures that a process has mapped for a leak, and starts a fresh one: nothing is lost by it
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    yield from Parallel(workers, return_as="generator", **options)(make(*some) for some in arguments)


def _names() -> list[str]:
    return [name for name in re.split(r"[,\s]+", os.environ.get(VARIABLE, "")) if name]


def _luggage() -> bytes:
    return pickle.dumps({**_received, **{group: registry.added() for group, registry in _registries.items()}})


def _receive(luggage: bytes) -> None:
    """Take what another process has registered; what it stands for is looked at when a name is asked for."""
    if luggage == _state["luggage"]:
        return
    _state["luggage"], _state["changes"] = luggage, changes() + 1
    for group, sent in pickle.loads(luggage).items():
        _received.setdefault(group, {}).update(sent)


def _send_along() -> None:
    """Have every process that `multiprocessing` starts anew take along what is registered in this one."""
    for method in set(multiprocessing.get_all_start_methods()) - {"fork"}:
        context: Any = multiprocessing.get_context(method)
        ForkingPickler.register(context.Process, _reduce_process)


def _reduce_process(process: Any) -> tuple[Any, ...]:
    build, arguments, *rest = process.__reduce_ex__(2)
    return (_with_luggage, (_luggage(), build, arguments), *rest)


def _with_luggage(luggage: bytes, build: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    _receive(luggage)
    return build(*arguments)


def _packed(value: Any) -> bytes | str:
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps(value)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return packed


def _distribution(point: EntryPoint) -> str:
    found = getattr(point, "dist", None)
    return "of unknown name" if found is None else f"{found.metadata['Name']} {found.version}"


def _reason(error: BaseException) -> str:
    return _line(f"{type(error).__name__}: {error}")


def _line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())[:300]
