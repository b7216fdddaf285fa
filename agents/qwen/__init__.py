"""Qwen3-VL as a policy: the agent, conversations as token ids, sampling, and a tiny model for tests."""
