"""Conversion to and from PyTorch, against a ResNet and an optimizer of PyTorch's own."""

import argparse
import io
import warnings
import zipfile

import numpy as np
import pytest

from moco_tf import checkpoint, cli, encoder_file, run_folder
from moco_tf.convert import convert, torch_file
from moco_tf.encoder_file import Snapshot, load_snapshot
from moco_tf.errors import InputError
from moco_tf.evaluate.features import load_encoder, untrained_encoder
from moco_tf.recipes import RECIPES

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch_twin import BasicBlock, Bottleneck, MoCo, ResNet, randomize  # noqa: E402


def mlp(features, dim):
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim))


def narrow(head, **settings):
    """A ResNet-18 of width 4, as in `small_run`: 32 features."""
    return ResNet(BasicBlock, (2, 2, 2, 2), head, **{"width": 4, "stem": "small"} | settings)


def images(size):
    return np.random.default_rng(1).standard_normal((2, size, size, 3)).astype(np.float32)


def torch_outputs(model, pixels):
    with torch.no_grad():
        x = torch.tensor(pixels.transpose(0, 3, 1, 2).copy())
        pooled = model.pooled(x)
        return pooled.numpy(), model.fc(pooled).numpy()


def our_outputs(file, pixels):
    encoder = load_encoder(file, warn=pytest.fail)[0]
    return [
        np.asarray(model(pixels, training=False)) for model in (encoder.backbone, encoder.model)
    ]


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


def test_ours_to_official_and_back_is_bit_identical(small_run, tmp_path):
    official, back = tmp_path / "run.pth.tar", tmp_path / "back.safetensors"
    result = convert(small_run, official, to="official")
    assert result["equal"] and result["computed_with"] == ["TensorFlow", "PyTorch"]
    assert result["max_abs_difference"] <= 1e-4 * result["largest_feature"]
    convert(official, back, to="moco-tf", image_size=16, normalization="imagenet")
    state = checkpoint.load_latest(run_folder.checkpoint_folder(small_run), warn=pytest.fail)[0]
    snapshot = load_snapshot(back, warn=pytest.fail)
    assert set(snapshot.state) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(snapshot.state[name], value, strict=True)
    assert snapshot.step == 7
    assert snapshot.origin == {"source": str(official), "format": "official", "epoch": 2}


def test_the_official_file_of_a_run_resumes_in_pytorch(small_run, tmp_path):
    path = tmp_path / "run.pth.tar"
    convert(small_run, path, to="official")
    content = torch.load(path, weights_only=True)
    assert (content["epoch"], content["arch"]) == (2, "resnet18")
    model = nn.DataParallel(MoCo(narrow(mlp(32, 6)), narrow(mlp(32, 6)), 6, 20))
    keys = list(model.state_dict())
    model.load_state_dict(content["state_dict"], strict=True)
    assert list(content["state_dict"]) == keys
    state = checkpoint.load_latest(run_folder.checkpoint_folder(small_run), warn=pytest.fail)[0]
    np.testing.assert_array_equal(model.module.queue.numpy(), state["queue"].T)
    assert model.module.queue_ptr.tolist() == [4]
    assert model.module.encoder_k.bn1.num_batches_tracked.item() == 7
    kernel = state["key_encoder/layer2.0.downsample.0/kernel"].transpose(3, 2, 0, 1)
    found = model.module.encoder_k.layer2[0].downsample[0].weight.detach().numpy()
    np.testing.assert_array_equal(found, kernel)
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9, weight_decay=1e-4)
    optimizer.load_state_dict(content["optimizer"])
    for parameter, name in [
        (model.module.encoder_q.layer2[0].conv2.weight, "layer2.0.conv2/kernel"),
        (model.module.encoder_q.layer4[1].bn2.bias, "layer4.1.bn2/beta"),
        (model.module.encoder_q.fc[2].weight, "fc.2/kernel"),
    ]:
        buffer, wanted = optimizer.state[parameter]["momentum_buffer"], state[f"momentum/{name}"]
        axes = (3, 2, 0, 1) if wanted.ndim == 4 else range(wanted.ndim)[::-1]
        np.testing.assert_array_equal(buffer.numpy(), wanted.transpose(axes))
    group = optimizer.param_groups[0]
    config = run_folder.read_config(small_run)
    assert (group["weight_decay"], group["momentum"]) == (config.weight_decay, 0.9)


def test_an_official_resnet50_loads_without_missing_or_unexpected_keys(tmp_path):
    config = RECIPES["moco-v2"].config.model_copy(update={"image_size": 64})
    encoder, rng = untrained_encoder(config), np.random.default_rng(0)
    state = {f"query_encoder/{v.path}": v.numpy() for v in encoder.model.variables}
    for name, value in state.items():
        if name.endswith(("gamma", "moving_variance")):
            state[name] = (0.5 + rng.random(value.shape)).astype(np.float32)
    ours, path = tmp_path / "ours.safetensors", tmp_path / "moco.pth.tar"
    ours.write_bytes(encoder_file.to_bytes(Snapshot(state, config, 11)))
    assert convert(ours, path, to="official")["equal"]
    state_dict = torch.load(path, weights_only=True)["state_dict"]
    prefix = "module.encoder_q."
    assert all(name.startswith(prefix) for name in state_dict)
    model = ResNet(Bottleneck, (3, 4, 6, 3), mlp(2048, 128))
    plain = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
    assert model.load_state_dict(plain, strict=True) == ([], [])
    assert_close(our_outputs(ours, images(64)), torch_outputs(model.eval(), images(64)))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: narrow(nn.Linear(32, 5)), ("resnet18", "small", "linear", 5, 4)),
        (
            lambda: ResNet(Bottleneck, (3, 4, 6, 3), mlp(64, 5), width=2, inner_factor=2),
            ("wide_resnet50_2", "imagenet", "mlp", 5, 2),
        ),
    ],
)
def test_a_released_file_gives_pytorchs_features(tmp_path, model, expected, zipped):
    model = randomize(model())
    path, target = tmp_path / "moco.pth.tar", tmp_path / "ours.safetensors"
    state_dict = {f"module.encoder_q.{name}": t for name, t in model.state_dict().items()}
    content = {"epoch": 200, "arch": "any", "state_dict": state_dict}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = convert(path, target, to="moco-tf", image_size=64)
    found = tuple(result[key] for key in ("encoder", "stem", "head", "dim", "width"))
    assert found == expected and result["step"] == 7 and result["source_format"] == "official"
    assert result["computed_with"] == ["PyTorch", "TensorFlow"] and result["equal"]
    assert_close(our_outputs(target, images(64)), torch_outputs(model, images(64)))


def demo_names(state_dict):
    """The demo's flat list: stem net.0 and net.1, stages net.3 to net.6, linear layer net.9."""
    numbers = {"conv1": 0, "bn1": 1, "fc": 9} | {f"layer{i}": i + 2 for i in range(1, 5)}
    split = {name: name.split(".", 1) for name in state_dict}
    return {f"net.{numbers[a]}.{b}": state_dict[name] for name, (a, b) in split.items()}


@pytest.mark.parametrize("prefix", ["encoder_q.", ""])
def test_the_demos_names(tmp_path, prefix):
    model = randomize(narrow(nn.Linear(32, 5)))
    named = demo_names(model.state_dict())
    content = {prefix + name: tensor for name, tensor in named.items()}
    if prefix:
        content |= {f"encoder_k.{name}": 2 * tensor for name, tensor in named.items()}
        content |= {"queue": torch.rand(7, 5), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    torch.save({"epoch": 3, "state_dict": content}, tmp_path / "demo.pth")
    target = tmp_path / "ours.safetensors"
    convert(tmp_path / "demo.pth", target, to="moco-tf", with_head=True)
    assert_close(our_outputs(target, images(32)), torch_outputs(model, images(32)))
    snapshot = load_snapshot(target, warn=pytest.fail)
    assert (snapshot.config.image_size, snapshot.config.normalization) == (32, "cifar10")
    if prefix:  # a queue that is stored as rows stays so
        np.testing.assert_array_equal(snapshot.state["queue"], content["queue"].numpy())
        theirs = content["encoder_k.net.0.weight"].numpy().transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(snapshot.state["key_encoder/conv1/kernel"], theirs)


def test_a_linear_classification_checkpoint_gives_its_backbone(tmp_path):
    model = randomize(narrow(nn.Linear(32, 10)))
    state_dict = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.fc.parameters(), 30, momentum=0.9)
    content = {"epoch": 1, "state_dict": state_dict, "best_acc1": torch.tensor(5.0)}
    torch.save(content | {"optimizer": optimizer.state_dict()}, tmp_path / "a.pth.tar")
    result = convert(tmp_path / "a.pth.tar", tmp_path / "b.pth", to="torchvision")
    assert result["head"] == "none" and result["max_abs_difference"] == 0
    back = torch.load(tmp_path / "b.pth", weights_only=True)
    wanted = {n: t for n, t in model.state_dict().items() if not n.startswith("fc")}
    assert list(back) == list(wanted)
    assert all(torch.equal(back[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("queue", torch.zeros(3, 8), r"queue has shape \(3, 8\), expected \(5, K\)"),
        ("encoder_k.fc.bias", torch.zeros(3), r"key encoder: fc.bias has shape \(3,\), .*\(5,\)"),
        (
            "queue_ptr",
            torch.tensor([9]),
            r"queue_ptr must be one number from 0 to 7; received \[9\]",
        ),
        ("queue_ptr", torch.zeros(0), r"queue_ptr must be one number from 0 to 7; received \[\]"),
        ("encoder_q.layer5.weight", torch.zeros(3), r"unknown key layer5.weight of shape \(3,\)"),
    ],
)
def test_a_full_file_that_does_not_fit_is_refused_by_name(tmp_path, key, value, message):
    state_dict = narrow(nn.Linear(32, 5)).state_dict()
    content = {f"encoder_{e}.{name}": t for e in "qk" for name, t in state_dict.items()}
    content |= {"queue": torch.rand(5, 8)}
    torch.save({"state_dict": content | {key: value}, "optimizer": [1]}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "a.pth", tmp_path / "x.safetensors", to="moco-tf")


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def refused(content, path, capsys, **options):
    """What the command says of a file that `torch.save` made; nothing may be written."""
    torch.save(content, path, **options)
    target = path.with_name("x.safetensors")
    assert cli.main(["convert", str(path), str(target), "--to", "moco-tf"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("moco-tf: error: ") and said.err.count("\n") == 1 and not said.out
    assert str(path) in said.err and not target.exists()
    return said.err


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_nothing_run(tmp_path, capsys, zipped):
    marker = tmp_path / "ran"
    options = {"_use_new_zipfile_serialization": zipped}
    content = {"state_dict": {"conv1.weight": Evil(marker)}}
    said = refused(content, tmp_path / "evil.pth.tar", capsys, **options)
    assert "refused: it holds" in said and "io.open" in said
    assert not marker.exists()
    torch.load(tmp_path / "evil.pth.tar", weights_only=False)["state_dict"]["conv1.weight"].close()
    assert marker.exists()  # it was no blank


def test_a_torch_whose_safe_loading_had_a_hole_is_not_used(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    said = refused({"state_dict": {}}, tmp_path / "a.pth", capsys)
    assert "2.5.1" in said and "pip install 'moco-tf[torch]'" in said


@pytest.mark.parametrize(
    ("extra", "what"),
    [(np.float64(3), "multiarray.scalar"), (argparse.Namespace(lr=1), "argparse.Namespace")],
)
def test_harmless_objects_are_refused_with_the_way_out(tmp_path, capsys, extra, what):
    content = {"state_dict": narrow(None).state_dict(), "best": extra}
    said = refused(content, tmp_path / "a.pth.tar", capsys)
    assert what in said and "save its state_dict alone with PyTorch" in said


def test_other_contents_and_damage_are_one_line(tmp_path, capsys):
    path = tmp_path / "a.pth.tar"
    assert "holds a list, not a state dict" in refused([1, 2], path, capsys)
    for nothing in ({"epoch": 1}, {1: torch.ones(1)}):
        assert "holds no state dict: no tensor in it has a name" in refused(nothing, path, capsys)
    wide = {"layer1.0.conv1.weight": torch.ones(4, 3, 1, 1), "layer99999999999.0.x": torch.ones(1)}
    assert "lacks the key conv1.weight" in refused(wide, path, capsys)
    wide["conv1.weight"] = torch.ones(4, 3, 7, 7)
    assert "no known encoder: basic blocks (1,)" in refused(wide, path, capsys)
    wide["conv1.weight"] = torch.ones(0, 3, 7, 7)
    assert "conv1.weight has shape (0, 3, 7, 7)" in refused(wide, path, capsys)
    sparse = {"conv1.weight": torch.eye(3).to_sparse()}
    assert "not a whole PyTorch file" in refused(sparse, path, capsys)
    for zipped in (True, False):
        torch.save(narrow(None).state_dict(), path, _use_new_zipfile_serialization=zipped)
        data = path.read_bytes()
        for size in (len(data) // 2, len(data) - 30, 40):
            path.write_bytes(data[:size])
            target = tmp_path / "x.safetensors"
            assert cli.main(["convert", str(path), str(target), "--to", "moco-tf"]) == 2
            said = capsys.readouterr().err
            assert "is not a whole PyTorch file" in said and said.count("\n") == 1


def test_little_that_stands_for_much_is_refused(tmp_path, capsys):
    one, nested, pair = torch.ones(1), [1], (1,)
    for _ in range(40):
        nested, pair = [nested] * 10, (pair,) * 10
    path = tmp_path / "a.pth"
    said = refused({"conv1.weight": one.as_strided((10**6, 3, 7, 7), (0,) * 4)}, path, capsys)
    assert "its tensors are far larger than it is" in said
    assert "expected 4 dimensions" in refused({"conv1.weight": one, "more": nested}, path, capsys)
    assert "a tuple in it stands for more than" in refused({"more": pair}, path, capsys)
    squeezed = io.BytesIO()
    torch.save({"a": torch.zeros(2**25)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(squeezed, "w", 8, compresslevel=1) as out:
        for name in whole.namelist():
            out.writestr(name, whole.read(name))
    path.write_bytes(squeezed.getvalue())
    with pytest.raises(InputError, match="more than 32 times its size is not unpacked"):
        convert(path, tmp_path / "x.safetensors", to="moco-tf")


def test_what_is_checked_is_what_is_loaded(tmp_path):
    """A harmless archive behind a bomb, one of two pickles of one name, one in capitals."""
    pair = (1,)
    for _ in range(40):
        pair = (pair,) * 10
    path, target = tmp_path / "a.pth", tmp_path / "x.safetensors"
    saved = {}
    for kind, content in (("bomb", {"more": pair}), ("good", {"conv1.weight": torch.ones(1)})):
        for zipped in (True, False):
            torch.save(content, path, _use_new_zipfile_serialization=zipped)
            saved[kind, zipped] = path.read_bytes()

    def with_pickles(*names):
        with zipfile.ZipFile(io.BytesIO(saved["bomb", True])) as whole:
            pickle = whole.read("a/data.pkl")
            rest = {n: whole.read(n) for n in whole.namelist() if n != "a/data.pkl"}
        with zipfile.ZipFile(path, "w") as made, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two members of one name
            for name, data in [*zip(names, (pickle, b"\x80\x02}."), strict=False), *rest.items()]:
                made.writestr(name, data)
        return path.read_bytes()

    for data, message in (
        (saved["bomb", False] + saved["good", True], "a tuple in it stands for more than"),
        (b"PK\x03\x04" + saved["good", True], "begins behind something else"),
        (with_pickles("a/data.pkl", "a/data.pkl"), "two members of the archive have one name"),
        (with_pickles("a/DATA.pkl", "a/data.pkl"), "two members of the archive have one name"),
        (with_pickles("a/data.PKL"), "a tuple in it stands for more than"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            convert(path, target, to="moco-tf")


def test_a_list_in_many_places_is_read_once(tmp_path):
    shared = [torch.ones(2), 3]
    torch.save({"a": shared, "b": [shared, shared]}, tmp_path / "a.pth")
    found = torch_file.read(tmp_path / "a.pth")
    assert found["b"][0] is found["b"][1] is found["a"] and found["a"][0].tolist() == [1, 1]
