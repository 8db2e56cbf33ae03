"""Conversion to and from PyTorch, against a ResNet and an optimizer of PyTorch's own."""

import importlib.util
import io
import multiprocessing
import sys
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from support import torch_side

from moco_tf.commands import cli
from moco_tf.convert import convert, torch_file, torch_process
from moco_tf.errors import InputError
from moco_tf.recipes import RECIPES
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder
from moco_tf.runs import snapshot as encoder_file
from moco_tf.runs.config_file import read_config
from moco_tf.runs.encoders import load_encoder, untrained_encoder
from moco_tf.runs.snapshot import EncoderCheckpoint, load_snapshot

if importlib.util.find_spec("torch") is None:
    pytest.skip("PyTorch is absent (pip install torch)", allow_module_level=True)


@pytest.fixture(scope="module")
def in_torch():
    """Calls a function of torch_files.py, by its name, in a process without TensorFlow."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        yield lambda *arguments, **options: pool.submit(
            partial(torch_side.call, *arguments, **options)
        ).result()


def test_no_process_holds_both_frameworks(small_run, tmp_path, in_torch):
    convert(small_run, tmp_path / "run.pth.tar", to="official")
    assert in_torch("loaded_frameworks") == {"torch"}
    assert {"torch", "tensorflow"} & sys.modules.keys() == {"tensorflow"}


def images(size):
    return np.random.default_rng(1).standard_normal((2, size, size, 3)).astype(np.float32)


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
    assert snapshot.provenance == {"source": str(official), "format": "official", "epoch": 2}


def test_the_official_file_of_a_run_resumes_in_pytorch(small_run, tmp_path, in_torch):
    path = tmp_path / "run.pth.tar"
    convert(small_run, path, to="official")
    found = in_torch("resume", path)
    assert found["head"] == (2, "resnet18") and found["same_names"]
    state = checkpoint.load_latest(run_folder.checkpoint_folder(small_run), warn=pytest.fail)[0]
    module = found["arrays"]
    np.testing.assert_array_equal(module["queue"], state["queue"].T)
    assert module["queue_ptr"].tolist() == [4]
    assert module["encoder_k.bn1.num_batches_tracked"] == 7
    kernel = state["key_encoder/layer2.0.downsample.0/kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(module["encoder_k.layer2.0.downsample.0.weight"], kernel)
    assert len(found["momentum"]) == 3
    for name, buffer in found["momentum"].items():
        wanted = state[f"momentum/{name}"]
        axes = (3, 2, 0, 1) if wanted.ndim == 4 else range(wanted.ndim)[::-1]
        np.testing.assert_array_equal(buffer, wanted.transpose(axes))
    assert found["group"] == (read_config(small_run).weight_decay, 0.9)


def test_an_official_resnet50_loads_without_missing_or_unexpected_keys(tmp_path, in_torch):
    config = RECIPES["moco-v2"].config.model_copy(update={"image_size": 64})
    encoder, rng = untrained_encoder(config), np.random.default_rng(0)
    state = {f"query_encoder/{v.path}": v.numpy() for v in encoder.model.variables}
    for name, value in state.items():
        if name.endswith(("gamma", "moving_variance")):
            state[name] = (0.5 + rng.random(value.shape)).astype(np.float32)
    ours, path = tmp_path / "ours.safetensors", tmp_path / "moco.pth.tar"
    ours.write_bytes(encoder_file.to_bytes(EncoderCheckpoint(state, config, 11)))
    assert convert(ours, path, to="official")["equal"]
    theirs = in_torch("resnet50_outputs", path, images(64))
    assert_close(our_outputs(ours, images(64)), theirs)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "expected",
    [("resnet18", "small", "linear", 5, 4), ("wide_resnet50_2", "imagenet", "mlp", 5, 2)],
)
def test_a_released_file_gives_pytorchs_features(tmp_path, in_torch, expected, zipped):
    path, target = tmp_path / "moco.pth.tar", tmp_path / "ours.safetensors"
    theirs = in_torch("save_released", path, expected[0], zipped, images(64))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = convert(path, target, to="moco-tf", image_size=64)
    found = tuple(result[key] for key in ("encoder", "stem", "head", "dim", "width"))
    assert found == expected and result["step"] == 7 and result["source_format"] == "official"
    assert result["computed_with"] == ["PyTorch", "TensorFlow"] and result["equal"]
    assert_close(our_outputs(target, images(64)), theirs)


@pytest.mark.parametrize("prefix", ["encoder_q.", ""])
def test_the_demos_names(tmp_path, in_torch, prefix):
    theirs, content = in_torch("save_demo", tmp_path / "demo.pth", prefix, images(32))
    target = tmp_path / "ours.safetensors"
    convert(tmp_path / "demo.pth", target, to="moco-tf", with_head=True)
    assert_close(our_outputs(target, images(32)), theirs)
    snapshot = load_snapshot(target, warn=pytest.fail)
    assert (snapshot.config.image_size, snapshot.config.normalization) == (32, "cifar10")
    if prefix:  # a queue that is stored as rows stays so
        np.testing.assert_array_equal(snapshot.state["queue"], content["queue"])
        theirs = content["encoder_k.net.0.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(snapshot.state["key_encoder/conv1/kernel"], theirs)


def test_a_linear_classification_checkpoint_gives_its_backbone(tmp_path, in_torch):
    state_dict = in_torch("save_linear_classification", tmp_path / "a.pth.tar")
    result = convert(tmp_path / "a.pth.tar", tmp_path / "b.pth", to="torchvision")
    assert result["head"] == "none" and result["max_abs_difference"] == 0
    back = in_torch("load", tmp_path / "b.pth")
    wanted = {n: array for n, array in state_dict.items() if not n.startswith("fc")}
    assert list(back) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(back[name], array, strict=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("queue", np.zeros((3, 8)), r"queue has shape \(3, 8\), expected \(5, K\)"),
        ("encoder_k.fc.bias", np.zeros(3), r"key encoder: fc.bias has shape \(3,\), .*\(5,\)"),
        (
            "queue_ptr",
            np.array([9]),
            r"queue_ptr must be one number from 0 to 7; received \[9\]",
        ),
        ("queue_ptr", np.zeros(0), r"queue_ptr must be one number from 0 to 7; received \[\]"),
        ("encoder_q.layer5.weight", np.zeros(3), r"unknown key layer5.weight of shape \(3,\)"),
    ],
)
def test_a_full_file_that_does_not_fit_is_refused_by_name(tmp_path, in_torch, key, value, message):
    in_torch("save_full", tmp_path / "a.pth", key, value)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "a.pth", tmp_path / "x.safetensors", to="moco-tf")


@pytest.fixture
def refused(in_torch, tmp_path, capsys):
    """What the command says of a file that `torch.save` made; nothing may be written."""

    def said_of(content, *arguments, **options):
        path, target = tmp_path / "a.pth.tar", tmp_path / "x.safetensors"
        in_torch("save", path, content, *arguments, **options)
        assert cli.main(["convert", str(path), str(target), "--to", "moco-tf"]) == 2
        said = capsys.readouterr()
        assert said.err.startswith("moco-tf: error: ") and said.err.count("\n") == 1
        assert str(path) in said.err and not said.out and not target.exists()
        return said.err

    return said_of


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_nothing_run(tmp_path, in_torch, refused, zipped):
    marker = tmp_path / "ran"
    said = refused("evil", marker, _use_new_zipfile_serialization=zipped)
    assert "refused: it holds" in said and "io.open" in said
    assert not marker.exists()
    in_torch("run_evil", tmp_path / "a.pth.tar")
    assert marker.exists()  # it was no blank


def test_a_torch_whose_safe_loading_had_a_hole_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.5.1+cpu"))
    with pytest.raises(InputError, match=r"2\.5\.1.* pip install 'moco-tf\[torch\]'"):
        torch_file.read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "what"),
    [("numpy scalar", "multiarray.scalar"), ("namespace", "argparse.Namespace")],
)
def test_harmless_objects_are_refused_with_the_way_out(refused, content, what):
    said = refused(content)
    assert what in said and "save its state_dict alone with PyTorch" in said


def test_other_contents_and_damage_are_one_line(tmp_path, in_torch, refused, capsys):
    assert "holds a list, not a state dict" in refused("list")
    for nothing in ("epoch", "number as name"):
        assert "holds no state dict: no tensor in it has a name" in refused(nothing)
    assert "lacks the key conv1.weight" in refused("wide")
    assert "no known encoder: basic blocks (1,)" in refused("wide", (4, 3, 7, 7))
    assert "conv1.weight has shape (0, 3, 7, 7)" in refused("wide", (0, 3, 7, 7))
    assert "not a whole PyTorch file" in refused("sparse")
    path, target = tmp_path / "a.pth.tar", tmp_path / "x.safetensors"
    for zipped in (True, False):
        in_torch("save", path, "plain", _use_new_zipfile_serialization=zipped)
        data = path.read_bytes()
        for size in (len(data) // 2, len(data) - 30, 40):
            path.write_bytes(data[:size])
            assert cli.main(["convert", str(path), str(target), "--to", "moco-tf"]) == 2
            said = capsys.readouterr().err
            assert "is not a whole PyTorch file" in said and said.count("\n") == 1


def test_little_that_stands_for_much_is_refused(tmp_path, in_torch, refused):
    assert "its tensors are far larger than it is" in refused("strided")
    assert "expected 4 dimensions" in refused("nested lists")
    assert "a tuple in it stands for more than" in refused("nested tuples")
    path, squeezed = tmp_path / "a.pth", io.BytesIO()
    in_torch("save", path, "zeros")
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(squeezed, "w", 8, compresslevel=1) as out:
        for name in whole.namelist():
            out.writestr(name, whole.read(name))
    path.write_bytes(squeezed.getvalue())
    with pytest.raises(InputError, match="more than 32 times its size is not unpacked"):
        convert(path, tmp_path / "x.safetensors", to="moco-tf")


def test_what_is_checked_is_what_is_loaded(tmp_path, in_torch):
    """A harmless archive behind a bomb, one of two pickles of one name, one in capitals."""
    path, target = tmp_path / "a.pth", tmp_path / "x.safetensors"
    saved = {}
    for kind in ("nested tuples", "one"):
        for zipped in (True, False):
            in_torch("save", path, kind, _use_new_zipfile_serialization=zipped)
            saved[kind, zipped] = path.read_bytes()
    bomb, good = "nested tuples", saved["one", True]

    def with_pickles(*names):
        with zipfile.ZipFile(io.BytesIO(saved[bomb, True])) as whole:
            pickle = whole.read("a/data.pkl")
            rest = {n: whole.read(n) for n in whole.namelist() if n != "a/data.pkl"}
        with zipfile.ZipFile(path, "w") as made, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two members of one name
            for name, data in [*zip(names, (pickle, b"\x80\x02}."), strict=False), *rest.items()]:
                made.writestr(name, data)
        return path.read_bytes()

    for data, message in (
        (saved[bomb, False] + good, "a tuple in it stands for more than"),
        (b"PK\x03\x04" + good, "does not begin at the first byte"),
        (with_pickles("a/data.pkl", "a/data.pkl"), "two members of the archive have one name"),
        (with_pickles("a/DATA.pkl", "a/data.pkl"), "two members of the archive have one name"),
        (with_pickles("a/data.PKL"), "a tuple in it stands for more than"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            convert(path, target, to="moco-tf")


def test_a_list_in_many_places_is_read_once(tmp_path, in_torch):
    in_torch("save", tmp_path / "a.pth", "shared")
    found = torch_process.read(tmp_path / "a.pth")
    assert found["b"][0] is found["b"][1] is found["a"] and found["a"][0].tolist() == [1, 1]
