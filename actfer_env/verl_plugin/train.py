"""verl's main program behind a check of the settings: ``python -m actfer_env.verl_plugin.train OVERRIDES``.

It takes the overrides of ``python -m verl.trainer.main_ppo``. What is wrong with the settings or the machine ends it
before Ray starts, one line for each thing, and so does an error of this project's in one of Ray's processes.
"""

from __future__ import annotations

import sys
from typing import Any

import hydra

from actfer_env.errors import ActFERError
from actfer_env.verl_plugin.check import LaunchError, check_launch
from actfer_env.verl_plugin.launch import machine_notes


def run(config: Any) -> None:
    """Check a configuration, then train with it.

    Args:
        config: verl's configuration.

    Raises:
        SystemExit: an error of this project's, with one line.
    """
    try:
        check_launch(config, _trainers())
        for note in machine_notes(config):
            print(f"note: {note}", file=sys.stderr)
        _start(config)
    except LaunchError as error:
        sys.exit(f"error: {error}")
    except ActFERError as error:
        sys.exit(f"error: {_last_line(error)}")


def _trainers() -> list[str]:
    """Return the names of `UCGRPOTrainer` and of those derived from it, as verl's registry holds them."""
    import verl.trainer.main_ppo  # noqa: F401  loads verl's plugins, and with them this project's trainer
    from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

    from actfer_env.verl_plugin.trainer import UCGRPOTrainer

    return [name for name, trainer in TRAINER_REGISTRY.items() if issubclass(trainer, UCGRPOTrainer)]


def _start(config: Any) -> None:
    from verl.trainer import main_ppo

    main_ppo.main(config)


def _last_line(error: BaseException) -> str:
    """Return an error's own line: Ray puts the trace of the other process before it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


if __name__ == "__main__":
    hydra.main(config_path="pkg://verl.trainer.config", config_name="ppo_trainer", version_base=None)(run)()
