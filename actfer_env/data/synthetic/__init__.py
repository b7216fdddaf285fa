"""Drawn faces with labels: the data sets "synthetic" and "synthetic-mixed"."""
