"""Curation of training data (ActFER 3.2): from labelled faces to trajectories with thoughts, and to SFT and RL sets.

`curate` does the whole of it. What it needs besides the core comes with the extra `[data]`; a writer that asks a model
needs `[api]`, too.
"""
