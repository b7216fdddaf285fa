"""Samples and data sets by name.

>>> from actfer_env.data import load_dataset
>>> load_dataset("portrait", split="test")[0].emotion
'happiness'
"""

from actfer_env.data.demo import load_demo
from actfer_env.data.jsonl import load_jsonl
from actfer_env.data.photos import load_photos
from actfer_env.data.portrait import load_portrait
from actfer_env.data.registry import DATASETS, load_dataset, register_dataset, registered_datasets
from actfer_env.data.sample import Dataset, Sample
from actfer_env.data.synthetic import load_mixed, load_synthetic

register_dataset("demo", load_demo)
register_dataset("jsonl", load_jsonl)
register_dataset("photos", load_photos)
register_dataset("portrait", load_portrait)
register_dataset("synthetic", load_synthetic)
register_dataset("synthetic-mixed", load_mixed)
DATASETS.seal()

__all__ = ["Dataset", "Sample", "load_dataset", "register_dataset", "registered_datasets"]
