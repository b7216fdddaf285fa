"""UC-GRPO inside verl: agent loop, both reward passes, trainer, and a mode for machines without GPU.

verl finds `actfer_env.verl_plugin.register` through the entry-point group ``verl.plugins``. Needs `[verl]`; this module
and `scoring` import no framework.
"""

TRAINER = "ucgrpo_sync"
"""The trainer's name in verl's registry: ``trainer.v1.trainer_mode``."""
