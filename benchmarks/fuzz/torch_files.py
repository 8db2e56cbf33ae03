"""Files as `torch.save` writes them, and pickles that mean harm."""

import io
import pickle
import random
import zipfile

import numpy as np
from archives import EVIL
from cases import broken, number
from encoders import encoder_arrays


def whole_torch() -> dict[str, bytes]:
    import torch

    state = {name: torch.tensor(array) for name, array in encoder_arrays("torch").items()}
    content = {"epoch": 3, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}
    files = {}
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        files["zip" if zipped else "legacy"] = file.getvalue()
    small = {"conv1.weight": torch.ones(1)}
    files |= {name: _saved(torch, value) for name, value in _odd(torch, small).items()}
    model = {"model": {"stem.conv1.weight": np.zeros(3)}}
    return files | {"detectron2": pickle.dumps(model, protocol=3)}


def _saved(torch, value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _odd(torch, small: dict) -> dict:
    """What `torch.save` takes and no one expects: little data that stand for much."""
    one = torch.ones(1)
    nested: list = [1]
    for _ in range(40):
        nested = [nested] * 10
    pair: tuple = (1,)
    for _ in range(40):
        pair = (pair,) * 10
    circle: list = []
    circle.append(circle)
    stride = {"conv1.weight": torch.as_strided(one, (10**6, 3, 7, 7), (0, 0, 0, 0))}
    return {
        "stride": stride,
        "stride.wide": {"conv1.weight": torch.as_strided(one, (10**6, 10**6), (0, 0))},
        "stride.int": {"a": torch.as_strided(torch.ones(1, dtype=torch.int64), (10**12,), (0,))},
        "nested": {"state_dict": small, "more": nested},
        "nested.names": {"state_dict": nested},
        "circle": {"state_dict": small, "more": circle},
        "tuples": {"state_dict": small, "more": pair},
        "sparse": {"a": torch.sparse_coo_tensor([[0]], [1.0], (10**12,))},
        "meta": {"conv1.weight": torch.empty(10**6, 3, 7, 7, device="meta")},
        "bool": {"conv1.weight": torch.ones(4, 3, 7, 7, dtype=torch.bool)},
        "complex": {"conv1.weight": torch.ones(4, 3, 7, 7, dtype=torch.complex64)},
        "long.name": {"a" * 10**6: one, 3: one},
        "epoch": {"state_dict": small, "epoch": 10**400},
    }


def hostile_torch(rng: random.Random, whole: dict[str, bytes]) -> bytes:
    chance = rng.random()
    if chance < 0.2:
        return rng.choice((EVIL, b"\x80\x02" + EVIL, _zipped({"a/data.pkl": b"\x80\x02" + EVIL})))
    if chance < 0.22:
        return _zipped({"a/data.pkl": rng.choice(_pickles())})
    data = whole[rng.choice(("zip", "zip", "legacy", *whole))]
    if chance < 0.3:
        return data
    if chance < 0.6 or data[:2] != b"PK":
        return broken(rng, data, b"\x80\x02" + EVIL * 20)
    return _other_members(rng, data)


def _pickles() -> list[bytes]:
    """Little programs of the pickle machine."""
    doubled = b"\x80\x02)" + b"".join(b"q%c%c" % (0, 2) + b"0h\0h\0\x86" for _ in range(60)) + b"."
    keys = b"\x80\x02}" + doubled[2:-1] + b"K\x01s."
    return [
        doubled.replace(b"q\x00\x02", b"q\x00"),
        keys.replace(b"q\x00\x02", b"q\x00"),
        b"\x80\x02" + b"(" * 10**6 + b".",
        b"\x80\x02]" + b"]" * 10**5 + b"a" * 10**5 + b".",
        b"\x80\x02X\xff\xff\xff\x7fa.",
        b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
        b"\x80\x02]" + b"r\xff\xff\xff\x7f.",
    ]


def _other_members(rng: random.Random, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([n for n in members if n.endswith("data.pkl")] * 3 + list(members))
    kind = rng.randrange(5)
    if kind <= 1:
        members[name] = broken(rng, members[name], EVIL)
    elif kind == 2:
        members.pop(name)
    elif kind == 3:
        members[rng.choice(("../outside/ran", "/tmp/ran", "a" * 1000))] = members.pop(name)
    else:
        members[name] += bytes(number(rng) % 10**6)
    return _zipped(members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()
