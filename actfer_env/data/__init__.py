"""Samples and data sets by name.

>>> from actfer_env.data import load_dataset
>>> load_dataset("portrait", split="test")[0].emotion
'happiness'
"""

from actfer_env.data.prepared import prepare_dataset
from actfer_env.data.registry import DATASETS, load_dataset, register_dataset, registered_datasets
from actfer_env.sample import Dataset, Sample

DATASETS.include({
    "affectnet": "actfer_env.data.loaders.affectnet:load_affectnet",
    "bp4d": "actfer_env.data.loaders.bp4d:load_bp4d",
    "curated": "actfer_env.curate.loader:load_curated",
    "demo": "actfer_env.data.demo:load_demo",
    "disfa": "actfer_env.data.loaders.disfa:load_disfa",
    "disfaplus": "actfer_env.data.loaders.disfa:load_disfa_plus",
    "facial_expressions": "actfer_env.data.loaders.facial_expressions:load_facial_expressions",
    "ferbench": "actfer_env.data.loaders.ferbench:load_ferbench",
    "ferplus": "actfer_env.data.loaders.ferplus:load_ferplus",
    "folders": "actfer_env.data.loaders.folders:load_folders",
    "huggingface": "actfer_env.data.loaders.huggingface:load_huggingface",
    "jsonl": "actfer_env.data.jsonl:load_jsonl",
    "photos": "actfer_env.data.photos:load_photos",
    "portrait": "actfer_env.data.portrait:load_portrait",
    "prepared": "actfer_env.data.prepared:load_prepared",
    "rafau": "actfer_env.data.loaders.rafdb:load_rafau",
    "rafdb": "actfer_env.data.loaders.rafdb:load_rafdb",
    "sfew": "actfer_env.data.loaders.sfew:load_sfew",
    "synthetic": "actfer_env.data.synthetic.samples:load_synthetic",
    "synthetic-micro": "actfer_env.data.synthetic.micro:load_micro",
    "synthetic-mixed": "actfer_env.data.synthetic.samples:load_mixed",
    "synthetic-subtle": "actfer_env.data.synthetic.samples:load_subtle",
})  # fmt: skip

__all__ = ["Dataset", "Sample", "load_dataset", "prepare_dataset", "register_dataset", "registered_datasets"]
