"""Samples and data sets by name.

>>> from actfer_env.data import load_dataset
>>> load_dataset("portrait", split="test")[0].emotion
'happiness'
"""

from actfer_env.data.demo import load_demo
from actfer_env.data.jsonl import load_jsonl
from actfer_env.data.loaders.affectnet import load_affectnet
from actfer_env.data.loaders.bp4d import load_bp4d
from actfer_env.data.loaders.disfa import load_disfa, load_disfa_plus
from actfer_env.data.loaders.facial_expressions import load_facial_expressions
from actfer_env.data.loaders.ferbench import load_ferbench
from actfer_env.data.loaders.ferplus import load_ferplus
from actfer_env.data.loaders.folders import load_folders
from actfer_env.data.loaders.huggingface import load_huggingface
from actfer_env.data.loaders.rafdb import load_rafau, load_rafdb
from actfer_env.data.loaders.sfew import load_sfew
from actfer_env.data.photos import load_photos
from actfer_env.data.portrait import load_portrait
from actfer_env.data.prepared import load_prepared, prepare_dataset
from actfer_env.data.registry import DATASETS, load_dataset, register_dataset, registered_datasets
from actfer_env.data.synthetic.micro import load_micro
from actfer_env.data.synthetic.samples import load_mixed, load_subtle, load_synthetic
from actfer_env.sample import Dataset, Sample

register_dataset("affectnet", load_affectnet)
register_dataset("bp4d", load_bp4d)
register_dataset("demo", load_demo)
register_dataset("disfa", load_disfa)
register_dataset("disfaplus", load_disfa_plus)
register_dataset("facial_expressions", load_facial_expressions)
register_dataset("ferbench", load_ferbench)
register_dataset("ferplus", load_ferplus)
register_dataset("folders", load_folders)
register_dataset("huggingface", load_huggingface)
register_dataset("jsonl", load_jsonl)
register_dataset("photos", load_photos)
register_dataset("portrait", load_portrait)
register_dataset("prepared", load_prepared)
register_dataset("rafau", load_rafau)
register_dataset("rafdb", load_rafdb)
register_dataset("sfew", load_sfew)
register_dataset("synthetic", load_synthetic)
register_dataset("synthetic-micro", load_micro)
register_dataset("synthetic-mixed", load_mixed)
register_dataset("synthetic-subtle", load_subtle)
DATASETS.seal()

__all__ = ["Dataset", "Sample", "load_dataset", "prepare_dataset", "register_dataset", "registered_datasets"]
