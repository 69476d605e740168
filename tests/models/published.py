"""Files in the forms in which others publish weights, made from models with random weights.

The layouts are those of the programs named in `geossl.models.forms`.
"""

import copy
import sys
from argparse import Namespace
from types import ModuleType

import numpy as np
import timm
import torch
from torch import nn
from torchvision.models import resnet18

ZERO = torch.zeros(())  # expanded, it takes no room in a file
MLP = {"0.weight": ZERO.expand(512, 512), "0.bias": ZERO.expand(512), "2.weight": ZERO.expand(16, 512)}
SGD = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.03, "params": [0]}]}


def trained(make=resnet18, seed=1):
    """A model none of whose weights are as they were made, statistics of batch normalisation among them."""
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) * (0.1 if "running_var" in name else 0.02))
    return model.eval()


def named(before, weights):
    return {f"{before}{name}": value for name, value in weights.items()}


def without(model, head):
    """A model's weights without its classifier's."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(head)}


def other(weights):
    """Another encoder's, of the same names."""
    return {name: ZERO.to(value.dtype).expand_as(value) for name, value in weights.items()}


def moco(model, *, head, arch="resnet18"):
    body = without(model, "fc.")
    state = {}
    for encoder, weights in (("q", body), ("k", other(body))):
        state |= named(f"module.encoder_{encoder}.", weights | named("fc.", head))
    state |= {"module.queue": torch.zeros(16, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return {"epoch": 200, "arch": arch, "state_dict": state, "optimizer": SGD}


def moco_v1(model):
    return moco(model, head={"weight": torch.zeros(16, 512), "bias": torch.zeros(16)})


def moco_v2(model):
    return moco(model, head=MLP)


def the_papers(model):
    head = {"module.layers.1.weight": torch.zeros(100, 16), "module.layers.1.bias": torch.zeros(100)}
    return moco(model, head=MLP) | {"geo_dict": head}


def moco_v3(model):
    body, head = without(model, "fc."), MLP | {"1.running_mean": torch.zeros(512)}
    state = named("module.base_encoder.", body | named("fc.", head))
    state |= named("module.momentum_encoder.", other(body) | named("fc.", head)) | named("module.predictor.", MLP)
    return {"epoch": 1000, "arch": "resnet18", "state_dict": state, "optimizer": SGD, "scaler": {"scale": 65536.0}}


def seco(model):
    """As Lightning 1.1.8 saves it; `ModelCheckpoint` has to be in place while it is written."""
    layers = nn.Sequential(*list(model.children())[:-1], nn.Flatten()).state_dict()
    state = {"queue": torch.zeros(3, 16, 8), "queue_ptr": torch.zeros(3, 1, dtype=torch.int64)}
    state |= named("encoder_q.", layers) | named("encoder_k.", other(layers))
    state |= named("heads_q.0.", MLP) | named("heads_k.0.", MLP)
    checkpoints = of_module("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    callback = {"monitor": None, "best_model_score": None, "best_model_path": "seco.ckpt", "dirpath": "logs"}
    return {
        "epoch": 199,
        "global_step": 1000,
        "pytorch-lightning_version": "1.1.8",
        "callbacks": {checkpoints: callback},
        "optimizer_states": [SGD],
        "lr_schedulers": [],
        "state_dict": state,
        "hparams_name": "kwargs",
        "hyper_parameters": {"base_encoder": "resnet18", "emb_dim": 16, "emb_spaces": 3, "gpus": 1},
    }


def of_module(module, name):
    """A class that is pickled as one of a module that is not installed."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        sys.modules.setdefault(path, ModuleType(path))
    found = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, found)
    return found


def vissl(model):
    trunk = named("_feature_blocks.", without(model, "fc."))
    heads = {"0.clf.0.weight": torch.zeros(16, 512)}
    base = {"model": {"trunk": trunk, "heads": heads}, "meta": {}}
    return {
        "phase_idx": 800,
        "iteration": 1000,
        "loss": 0.5,
        "classy_state_dict": {"base_model": base, "optimizer": {"optim": SGD}, "train_phase_idx": 799},
    }


def simsiam(model):
    state = named("module.encoder.", without(model, "fc.") | named("fc.", MLP)) | named("module.predictor.", MLP)
    return {"epoch": 100, "arch": "resnet18", "state_dict": state, "optimizer": SGD}


def dino(model, arch="resnet18"):
    body, head = without(model, ("fc.", "head.")), {"head.last_layer.weight_g": torch.ones(8, 1)}
    before = "module." if arch.startswith("resnet") else ""
    return {
        "student": named("module.", named("backbone.", other(body)) | head),
        "teacher": named(before, named("backbone.", body) | head),
        "optimizer": SGD,
        "epoch": 100,
        "args": Namespace(arch=arch, patch_size=16, out_dim=65536, use_fp16=True),
        "dino_loss": {"center": torch.zeros(1, 8)},
    }


def lightly(model):
    layers = nn.Sequential(*list(model.children())[:-1]).state_dict()
    state = named("backbone.", layers) | named("backbone_momentum.", other(layers))
    state |= {"projection_head.layers.0.weight": torch.zeros(512, 512)}
    return {
        "epoch": 99,
        "pytorch-lightning_version": "2.0.7",
        "callbacks": {"ModelCheckpoint": {}},
        "state_dict": state,
    }


def solo_learn(model):
    body = without(model, "fc.")
    state = named("backbone.", body) | named("momentum_backbone.", other(body)) | named("projector.", MLP)
    state |= {"classifier.weight": torch.zeros(10, 512), "queue": torch.zeros(2, 16, 8)}
    return {"epoch": 399, "pytorch-lightning_version": "2.1.2", "state_dict": state}


def densecl(model):
    """A checkpoint of mmcv's runner; what is published is its `backbone.` alone, without the prefix."""
    state = named("backbone.", without(model, "fc.")) | named("neck.mlp.", MLP) | {"queue": torch.zeros(16, 8)}
    return {"meta": {"epoch": 200, "iter": 1000}, "state_dict": state, "optimizer": SGD}


def torchgeos_trainer(model):
    hyper = {"model": "resnet18", "in_channels": 3, "num_classes": 10}
    return {"state_dict": named("model.", model.state_dict()), "hyper_parameters": hyper, "callbacks": {}}


def torchgeos_weights(model):
    return without(model, "fc.")


def timms_training(model):
    args = Namespace(model="resnet18", lr=0.1)
    best = np.float64(77.5)
    return {"epoch": 3, "arch": "resnet18", "state_dict": model.state_dict(), "args": args, "metric": best}


def tiny_vit():
    return timm.create_model("vit_tiny_patch16_224", num_classes=10)


def features_of(model, images):
    """What a model makes of images before its classifier."""
    model = copy.deepcopy(model)
    name = "head" if hasattr(model, "head") else "fc"
    setattr(model, name, nn.Identity())
    with torch.no_grad():
        return model.eval()(images)
