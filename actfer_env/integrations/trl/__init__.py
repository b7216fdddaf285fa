"""TRL's `GRPOTrainer` over the same episodes and rewards: an environment, a whole-group reward, its callback. `[trl]`.

```python
processor = read_turns(AutoProcessor.from_pretrained(model))
reward = UCGRPOReward("full")
trainer = GRPOTrainer(
    model, reward_funcs=reward, args=args, train_dataset=rows("parquet/"), processing_class=processor,
    environment_factory=FaceEnv, callbacks=[reward.callback()],
)
trainer.train(resume_from_checkpoint=last_checkpoint(args.output_dir))
```

TRL asks an environment for methods, and parses calls by a template of each model. `read_turns` lets the project's own
parser read whole turns instead: then malformed calls, unknown labels and several calls in a turn are played and
answered as in every other conversation of this package.
"""

from actfer_env.integrations.trl.checkpoints import last_checkpoint
from actfer_env.integrations.trl.environment import FaceEnv
from actfer_env.integrations.trl.environments import environments
from actfer_env.integrations.trl.reward import UCGRPOReward
from actfer_env.integrations.trl.rows import rows
from actfer_env.integrations.trl.turns import forbidden_tokens, read_turns

__all__ = [
    "FaceEnv", "UCGRPOReward", "environments", "forbidden_tokens", "last_checkpoint", "read_turns", "rows",
]  # fmt: skip
