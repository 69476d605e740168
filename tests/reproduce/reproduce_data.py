"""A grid that takes seconds."""

import yaml

TINY = {
    "purpose": "A grid of seconds.",
    "table": "fmow",
    "data": {"places": 30, "views": 2, "size": 32, "clusters": 3},
    "seeds": [0],
    "recipes": ["laptop"],
    "config": {
        "epochs": 2,
        "batch": 8,
        "crop": {"size": 32},
        "model": {"backbone": "timm/test_resnet", "queue": 16},
    },
    "backbone": "timm/test_resnet",
    "arms": {
        "supervised": {"method": "Supervised, scratch", "scratch": True},
        "moco": {"method": "MoCo-V2", "recipes": ["moco"], "finetuned": False},
        "geo_tp": {"method": "MoCo-V2+Geo+TP", "recipes": ["geo_tp"]},
    },
    "evaluation": {"methods": ["linear", "knn"], "baselines": ["statistics"], "finetune_epochs": 2},
    "compare": [["moco", "geo_tp"]],
}


def write_grid(path, **changes):
    """The grid as a file, with changes of its first level; its path as `read_grid` takes it."""
    path.write_text(yaml.safe_dump(TINY | changes))
    return str(path)
