"""Doors to other projects: servers and trainers that play the same episodes and give the same rewards."""
