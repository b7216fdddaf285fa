"""Query groups in worker processes: each owns whole groups and writes their observations into shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NoReturn, TypeVar

import cloudpickle
import cv2
import numpy as np
from numpy.typing import NDArray

from actfer_env.envs.face import ActFEREnv
from actfer_env.envs.observations import Arrays
from actfer_env.errors import WorkerError
from actfer_env.images import RGB
from actfer_env.rewards import Scores
from actfer_env.wrappers.blocks import GroupBlock, Start, Turn
from actfer_env.wrappers.chat_blocks import ChatBlock

T = TypeVar("T")
_GRACE = 5.0  # seconds that a worker gets to end by itself


class LocalBlock:
    """All groups in this process; the same calls as `WorkerPool`.

    Args:
        env: Environment as for `GroupBlock`.
        num_groups: Groups.
        group_size: Members of a group.
    """

    def __init__(self, env: ActFEREnv, num_groups: int, group_size: int) -> None:
        self.arrays: Arrays = env.layout.arrays(num_groups * group_size)
        self.active: NDArray[np.bool_] = np.zeros(num_groups * group_size, bool)
        kind: Any = GroupBlock if isinstance(env, ActFEREnv) else ChatBlock
        self.block = kind(env, range(num_groups), group_size, self.arrays, self.active)
        self.start, self.turn, self.panels = self.block.start, self.block.turn, self.block.panels

    def close(self) -> None:
        """Nothing to release."""


class WorkerPool:
    """Groups dealt to worker processes in contiguous shares.

    The memory is a file without a name: it goes when the last process that uses it ends, however that ends.

    Args:
        env: Environment as for `GroupBlock`; sizes the memory.
        kwargs: Arguments of the `ActFEREnv` that every worker makes.
        num_groups: Groups.
        group_size: Members of a group.
        num_workers: Processes, at most one a group.
        context: Start method of `multiprocessing`.

    Raises:
        ValueError: an unknown start method, more workers than groups, or arguments that cannot be sent.
        WorkerError: a worker ended while starting.
    """

    def __init__(
        self,
        env: ActFEREnv,
        kwargs: Mapping[str, Any],
        num_groups: int,
        group_size: int,
        num_workers: int,
        context: str,
    ) -> None:
        known = multiprocessing.get_all_start_methods()
        if context not in known:
            raise ValueError(f"unknown start method {context!r} for worker processes: use one of {', '.join(known)}")
        if num_workers > num_groups:
            raise ValueError(f"{num_workers} workers for {num_groups} groups: a worker owns whole groups, use fewer")
        spawner: Any = multiprocessing.get_context(context)
        n = num_groups * group_size
        memory = spawner.RawArray(ctypes.c_uint8, env.layout.nbytes(n) + n)
        self.arrays, self.active = _laid_out(env, n, memory)
        shares = [range(part[0], part[-1] + 1) for part in np.array_split(np.arange(num_groups), num_workers)]
        self._shares = [range(int(share.start), int(share.stop)) for share in shares]
        self._rows = [slice(share.start * group_size, share.stop * group_size) for share in self._shares]
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        try:
            sent = kwargs if context == "fork" else _packed(kwargs)
            for share in self._shares:
                ours, theirs = spawner.Pipe()
                arguments = (theirs, sent, share, num_groups, group_size, memory)
                process = spawner.Process(target=_serve, args=arguments, daemon=True)
                process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
            _results([self._receive(i) for i in range(num_workers)])
        except BaseException:
            self.close()
            raise

    def start(self, starts: Sequence[Start]) -> Turn:
        """Begin groups; see `GroupBlock.start`."""
        chosen = [i for i, share in enumerate(self._shares) if any(start.group in share for start in starts)]
        return Turn.joined(self._ask(chosen, lambda i: ("start", (self._of(i, starts),))))

    def turn(self, starts: Sequence[Start], actions: Any) -> Turn:
        """Play one turn; see `GroupBlock.turn`."""

        def request(i: int) -> Any:
            rows = self._rows[i]
            keyed = isinstance(actions, Mapping)
            own = {key: values[rows] for key, values in actions.items()} if keyed else actions[rows]
            return "turn", (self._of(i, starts), own)

        return Turn.joined(self._ask(range(len(self._pipes)), request))

    def panels(self, scores: Sequence[tuple[Scores, int] | None]) -> list[RGB]:
        """Return a picture of every member's episode; see `GroupBlock.panels`."""
        parts = self._ask(range(len(self._pipes)), lambda i: ("panels", (scores[self._rows[i]],)))
        return [panel for part in parts for panel in part]

    def close(self) -> None:
        """End the workers, by force if they do not end by themselves."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError, ValueError):
                pipe.send(None)
        for process in self._processes:
            process.join(_GRACE)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()
        self._pipes, self._processes = [], []

    def _of(self, i: int, starts: Sequence[Start]) -> list[Start]:
        return [start for start in starts if start.group in self._shares[i]]

    def _ask(self, workers: Sequence[int], request: Callable[[int], Any]) -> list[Any]:
        if not self._pipes:
            raise WorkerError("the worker processes have ended: make a new environment")
        try:
            for i in workers:
                try:
                    self._pipes[i].send(request(i))
                except OSError:
                    self._fail(i)
            replies = [self._receive(i) for i in workers]
        except BaseException:  # such as Ctrl-C: a reply on its way would be taken for that to the next request
            self.close()
            raise
        return _results(replies)

    def _receive(self, i: int) -> tuple[Any, ...]:
        try:
            reply: tuple[Any, ...] = self._pipes[i].recv()
        except (EOFError, OSError):
            self._fail(i)
        return reply

    def _fail(self, i: int) -> NoReturn:
        process, share = self._processes[i], self._shares[i]
        process.join(_GRACE)
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        self.close()
        raise WorkerError(
            f"worker process {i} (groups {share.start} to {share.stop - 1}) {how}: make a new environment; a script "
            "that starts workers needs `if __name__ == '__main__':` around its main part"
        )


def _results(replies: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return what the workers have sent, or raise the first error among it."""
    for error, trace in (reply[1:] for reply in replies if reply[0] == "error"):
        raise error from RuntimeError(f"in a worker process:\n{trace}")
    return [reply[1] for reply in replies]


def _laid_out(env: ActFEREnv, n: int, memory: Any) -> tuple[Arrays, NDArray[np.bool_]]:
    """Return the observations' arrays of n environments, and the flags `active` behind them."""
    return env.layout.arrays(n, memory), np.ndarray((n,), bool, memory, env.layout.nbytes(n))


def _packed(kwargs: Mapping[str, Any]) -> bytes:
    """Pickle arguments; unlike pickle, cloudpickle takes functions and classes that stand in no module."""
    try:
        packed: bytes = cloudpickle.dumps(dict(kwargs))
    except Exception as error:
        raise ValueError(f"the arguments cannot be sent to worker processes ({error}); use num_workers=0") from error
    return packed


def _serve(
    pipe: Connection, kwargs: Mapping[str, Any] | bytes, share: range, num_groups: int, group_size: int, memory: Any
) -> None:
    """Answer the requests of a `WorkerPool` until it hangs up; the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle; it ends the workers
    cv2.setNumThreads(1)
    reply, block = _attempt(lambda: _make_block(kwargs, share, num_groups, group_size, memory))
    pipe.send(reply if block is None else ("ok", None))
    with contextlib.suppress(EOFError, OSError):
        while block is not None and (request := pipe.recv()) is not None:
            name, arguments = request
            pipe.send(_attempt(partial(getattr(block, name), *arguments))[0])


def _make_block(
    kwargs: Mapping[str, Any] | bytes, share: range, num_groups: int, group_size: int, memory: Any
) -> GroupBlock:
    env = ActFEREnv(**(pickle.loads(kwargs) if isinstance(kwargs, bytes) else kwargs))
    arrays, active = _laid_out(env, num_groups * group_size, memory)
    rows = slice(share.start * group_size, share.stop * group_size)
    return GroupBlock(env, share, group_size, {key: values[rows] for key, values in arrays.items()}, active[rows])


def _attempt(call: Callable[[], T]) -> tuple[tuple[Any, ...], T | None]:
    """Return the reply to a request, and its result; errors are sent home as themselves where they can travel."""
    try:
        result = call()
        return ("ok", result), result
    except Exception as error:
        return ("error", _portable(error), traceback.format_exc()), None


def _portable(error: Exception) -> Exception:
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return (
        error
        if type(copy) is type(error) and str(copy) == str(error)
        else RuntimeError(f"{type(error).__name__}: {error}")
    )
