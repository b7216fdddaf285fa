"""Commands that tell what is there: envs, doctor."""

from __future__ import annotations

from actfer_env.cli.output import console, say


def envs() -> None:
    """List the registered environments with their action and observation spaces."""
    import gymnasium as gym
    from rich.table import Table

    from actfer_env.envs.registration import CHAT_ID, IDS

    table = Table("id", "action space", title="Registered environments")
    for name in (*IDS, CHAT_ID):
        table.add_row(name, str(gym.make(name).action_space))
    console().print(table)
    say("Observations and arguments: python -c 'import actfer_env.envs.face; help(actfer_env.envs.face.ActFEREnv)'")


def doctor() -> None:
    """Show what is installed, which detectors are ready, and how to get what is missing."""
    from actfer_env.doctor import detector_table, package_table

    console().print(package_table())
    console().print(detector_table())
