"""A light inspection policy and its UC-GRPO trainer, for two cores and no GPU. Needs the `[torch]` extra."""
