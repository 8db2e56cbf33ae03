"""Files of PyTorch's, made and loaded by PyTorch itself, for the tests of `convert`.

Paths, numbers and arrays come in and go out.
"""

import argparse
import sys

import numpy as np
import torch
from support.torch_twin import BasicBlock, Bottleneck, MoCo, ResNet, randomize
from torch import nn


def mlp(features, dim):
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim))


def narrow(head, **settings):
    """A ResNet-18 of width 4, as in `small_run`: 32 features."""
    return ResNet(BasicBlock, (2, 2, 2, 2), head, **{"width": 4, "stem": "small"} | settings)


MODELS = {
    "resnet18": lambda: narrow(nn.Linear(32, 5)),
    "resnet18, 10 classes": lambda: narrow(nn.Linear(32, 10)),
    "wide_resnet50_2": lambda: ResNet(
        Bottleneck, (3, 4, 6, 3), mlp(64, 5), width=2, inner_factor=2
    ),
}


def loaded_frameworks():
    """Which of PyTorch and TensorFlow this process has loaded."""
    return {"torch", "tensorflow"} & sys.modules.keys()


def arrays(tensors):
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def outputs(model, pixels):
    with torch.no_grad():
        x = torch.tensor(pixels.transpose(0, 3, 1, 2).copy())
        pooled = model.pooled(x)
        return pooled.numpy(), model.fc(pooled).numpy()


def load(path, **options):
    """The content of a file, its tensors as arrays."""
    content = torch.load(path, **{"weights_only": True} | options)
    return arrays(content) if all(torch.is_tensor(v) for v in content.values()) else content


def resume(path):
    """Loads an official checkpoint as the official code would; what the objects then hold."""
    content = torch.load(path, weights_only=True)
    model = nn.DataParallel(MoCo(narrow(mlp(32, 6)), narrow(mlp(32, 6)), 6, 20))
    names = list(model.state_dict())
    model.load_state_dict(content["state_dict"], strict=True)
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9, weight_decay=1e-4)
    optimizer.load_state_dict(content["optimizer"])
    query = model.module.encoder_q
    of = {
        "layer2.0.conv2/kernel": query.layer2[0].conv2.weight,
        "layer4.1.bn2/beta": query.layer4[1].bn2.bias,
        "fc.2/kernel": query.fc[2].weight,
    }
    group = optimizer.param_groups[0]
    return {
        "head": (content["epoch"], content["arch"]),
        "same_names": list(content["state_dict"]) == names,
        "arrays": arrays(model.module.state_dict()),
        "momentum": arrays({n: optimizer.state[p]["momentum_buffer"] for n, p in of.items()}),
        "group": (group["weight_decay"], group["momentum"]),
    }


def resnet50_outputs(path, pixels):
    """Outputs of the query encoder in an official checkpoint of MoCo v2."""
    state_dict = torch.load(path, weights_only=True)["state_dict"]
    prefix = "module.encoder_q."
    assert all(name.startswith(prefix) for name in state_dict)
    model = ResNet(Bottleneck, (3, 4, 6, 3), mlp(2048, 128))
    plain = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
    assert model.load_state_dict(plain, strict=True) == ([], [])
    return outputs(model.eval(), pixels)


def save_released(path, kind, zipped, pixels):
    """Saves an official checkpoint of a model of `MODELS`; returns the model's outputs."""
    model = randomize(MODELS[kind]())
    state_dict = {f"module.encoder_q.{name}": t for name, t in model.state_dict().items()}
    content = {"epoch": 200, "arch": "any", "state_dict": state_dict}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return outputs(model, pixels)


def demo_names(state_dict):
    """The demo's flat list: stem net.0 and net.1, stages net.3 to net.6, linear layer net.9."""
    numbers = {"conv1": 0, "bn1": 1, "fc": 9} | {f"layer{i}": i + 2 for i in range(1, 5)}
    split = {name: name.split(".", 1) for name in state_dict}
    return {f"net.{numbers[a]}.{b}": state_dict[name] for name, (a, b) in split.items()}


def save_demo(path, prefix, pixels):
    """Saves a checkpoint with the demo's names; returns the model's outputs and the content."""
    model = randomize(narrow(nn.Linear(32, 5)))
    named = demo_names(model.state_dict())
    content = {prefix + name: tensor for name, tensor in named.items()}
    if prefix:
        content |= {f"encoder_k.{name}": 2 * tensor for name, tensor in named.items()}
        content |= {"queue": torch.rand(7, 5), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    torch.save({"epoch": 3, "state_dict": content}, path)
    return outputs(model, pixels), arrays(content)


def save_linear_classification(path):
    """Saves a checkpoint of main_lincls.py; returns its state dict."""
    model = randomize(MODELS["resnet18, 10 classes"]())
    state_dict = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.fc.parameters(), 30, momentum=0.9)
    content = {"epoch": 1, "state_dict": state_dict, "best_acc1": torch.tensor(5.0)}
    torch.save(content | {"optimizer": optimizer.state_dict()}, path)
    return arrays(model.state_dict())


def save_full(path, key, value):
    """Saves both encoders and a queue, with one entry more or otherwise."""
    state_dict = narrow(nn.Linear(32, 5)).state_dict()
    content = {f"encoder_{e}.{name}": t for e in "qk" for name, t in state_dict.items()}
    content |= {"queue": torch.rand(5, 8), key: torch.from_numpy(value)}
    torch.save({"state_dict": content, "optimizer": [1]}, path)


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def run_evil(path):
    torch.load(path, weights_only=False)["state_dict"]["conv1.weight"].close()


def _nested(kind):
    value = kind([1])
    for _ in range(40):
        value = [value] * 10 if kind is list else (value,) * 10
    return value


def _wide(stem=None):
    content = {"layer1.0.conv1.weight": torch.ones(4, 3, 1, 1)}
    content |= {"layer99999999999.0.x": torch.ones(1)}
    return content if stem is None else content | {"conv1.weight": torch.ones(*stem)}


def _shared():
    shared = [torch.ones(2), 3]
    return {"a": shared, "b": [shared, shared]}


CONTENTS = {
    "evil": lambda marker: {"state_dict": {"conv1.weight": Evil(marker)}},
    "empty": lambda: {"state_dict": {}},
    "numpy scalar": lambda: {"state_dict": narrow(None).state_dict(), "best": np.float64(3)},
    "namespace": lambda: {
        "state_dict": narrow(None).state_dict(),
        "best": argparse.Namespace(lr=1),
    },
    "list": lambda: [1, 2],
    "epoch": lambda: {"epoch": 1},
    "number as name": lambda: {1: torch.ones(1)},
    "wide": _wide,
    "plain": lambda: narrow(None).state_dict(),
    "sparse": lambda: {"conv1.weight": torch.eye(3).to_sparse()},
    "strided": lambda: {"conv1.weight": torch.ones(1).as_strided((10**6, 3, 7, 7), (0,) * 4)},
    "nested lists": lambda: {"conv1.weight": torch.ones(1), "more": _nested(list)},
    "nested tuples": lambda: {"more": _nested(tuple)},
    "zeros": lambda: {"a": torch.zeros(2**25)},
    "one": lambda: {"conv1.weight": torch.ones(1)},
    "shared": _shared,
}


def save(path, content, *arguments, **options):
    """Saves what `CONTENTS` names."""
    torch.save(CONTENTS[content](*arguments), path, **options)
