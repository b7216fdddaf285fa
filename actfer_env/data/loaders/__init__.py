"""Loaders of published data sets in their official layouts, one module a data set or family.

To add one: write its module here after the pattern of `sfew`, name it in the table of `actfer_env/data/__init__.py`,
and give it a row in `docs/data.md`.
"""
