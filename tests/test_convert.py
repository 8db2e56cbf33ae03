"""Conversion without PyTorch: our files, safetensors, Detectron2, and all that is refused."""

import json
import pickle
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

import moco_tf
from moco_tf.building import build_method
from moco_tf.commands import cli
from moco_tf.convert import convert
from moco_tf.convert.targets import SUFFIXES
from moco_tf.errors import InputError
from moco_tf.evaluate.features import embedding
from moco_tf.runs import folder as run_folder
from moco_tf.runs.checkpoint import load_latest
from moco_tf.runs.config_file import read_config
from moco_tf.runs.encoders import load_encoder
from moco_tf.runs.snapshot import load_snapshot

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)


def features(run):
    encoder, config, _ = load_encoder(run, warn=pytest.fail)
    return {
        which: embedding(encoder, features=which, normalization=config.normalization)(IMAGES)
        for which in ("projection", "pooled")
    }


def run_state(run):
    return load_latest(run_folder.checkpoint_folder(run), warn=pytest.fail)[0]


@pytest.fixture(scope="module")
def plain(small_run, tmp_path_factory):
    """A safetensors file with torchvision's names, MLP head included."""
    path = tmp_path_factory.mktemp("plain") / "plain.safetensors"
    assert convert(small_run, path, to="torchvision", with_head=True)["equal"]
    return path


@pytest.mark.slow
def test_a_converted_file_is_accepted_as_a_run(small_run, tmp_path):
    file, data = tmp_path / "encoder.safetensors", tmp_path / "images.npz"
    result = convert(small_run, file, to="moco-tf")
    assert result["equal"] and result["arrays_equal"] and result["max_abs_difference"] == 0
    snapshot, state = load_snapshot(file, warn=pytest.fail), run_state(small_run)
    assert set(snapshot.state) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(snapshot.state[name], value, strict=True)
    assert snapshot.step == 7 and snapshot.config == read_config(small_run)
    assert snapshot.provenance == {"source": str(small_run), "format": "run", "epoch": 2}
    by_file, by_run = features(file), features(small_run)
    for which, values in by_file.items():
        np.testing.assert_array_equal(values, by_run[which])
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    np.savez(data, images=images, labels=np.arange(12) % 2)
    by_file, by_run = (moco_tf.knn(run, data=data, k=3) for run in (file, small_run))
    assert by_file == by_run


def test_plain_names_in_torchvisions_order_and_layout(small_run, plain):
    arrays, state = load_file(plain), run_state(small_run)
    kernel = state["query_encoder/layer2.0.conv1/kernel"]
    np.testing.assert_array_equal(arrays["layer2.0.conv1.weight"], kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(arrays["fc.0.weight"], state["query_encoder/fc.0/kernel"].T)
    counters = [value for name, value in arrays.items() if name.endswith("num_batches_tracked")]
    assert len(counters) == 20
    assert all(value == 7 and value.dtype == np.int64 and value.ndim == 0 for value in counters)


def test_plain_names_back_to_ours_bit_for_bit(small_run, plain, tmp_path):
    file = tmp_path / "back.safetensors"
    result = convert(plain, file, to="moco-tf", image_size=16, normalization="none")
    wanted = {"resnet18", 4, "small", "mlp", 6, 16, "none", "torchvision"}
    keys = ("encoder", "width", "stem", "head", "dim", "image_size", "normalization")
    assert {result[key] for key in (*keys, "source_format")} == wanted and result["equal"]
    with pytest.raises(InputError, match="data D"):
        moco_tf.knn(file)
    snapshot, state = load_snapshot(file, warn=pytest.fail), run_state(small_run)
    assert snapshot.step == 7
    assert set(snapshot.state) == {name for name in state if name.startswith("query_encoder/")}
    for name, value in snapshot.state.items():
        np.testing.assert_array_equal(value, state[name], strict=True)


@pytest.mark.slow
def test_a_backbone_has_pooled_features_only(small_run, tmp_path):
    bare, file = tmp_path / "bare.safetensors", tmp_path / "ours.safetensors"
    convert(small_run, bare, to="timm")
    assert not [name for name in load_file(bare) if name.startswith("fc")]
    assert convert(bare, file, to="moco-tf", image_size=16)["head"] == "none"
    encoder, config, _ = load_encoder(file, warn=pytest.fail)
    embed = embedding(encoder, features="pooled", normalization="imagenet")
    np.testing.assert_array_equal(embed(IMAGES).numpy(), features(small_run)["pooled"])
    with pytest.raises(InputError, match=r"features=projection\. Use --features pooled"):
        embedding(encoder, features="projection", normalization="imagenet")
    with pytest.raises(InputError, match="head=none"):
        build_method(config, None)


def test_a_plain_linear_fc_is_a_classifier_unless_asked(plain, tmp_path):
    arrays = {name: v for name, v in load_file(plain).items() if not name.startswith("fc")}
    arrays |= {"fc.weight": np.ones((10, 32), np.float32), "fc.bias": np.ones(10, np.float32)}
    save_file(arrays, tmp_path / "classifier.safetensors")
    result = convert(tmp_path / "classifier.safetensors", tmp_path / "a.safetensors", to="moco-tf")
    assert result["head"] == "none"
    assert result["notes"] == [
        "fc (32 -> 10) was taken as a classifier and left out; --with-head keeps it as the "
        "projection head"
    ]
    result = convert(
        tmp_path / "classifier.safetensors",
        tmp_path / "b.safetensors",
        to="moco-tf",
        with_head=True,
    )
    assert (result["head"], result["dim"], result["notes"]) == ("linear", 10, [])


def test_detectron2s_pickle_holds_what_its_official_script_makes(small_run, plain, tmp_path):
    path = tmp_path / "encoder.pkl"
    assert convert(small_run, path, to="detectron2")["equal"]
    data = path.read_bytes()
    assert b"numpy.core.multiarray" in data and b"numpy._core" not in data  # for NumPy 1 too
    content = pickle.loads(data)
    assert (content["__author__"], content["matching_heuristics"]) == ("MOCO", True)
    wanted = {}
    for name, value in load_file(plain).items():
        if name.startswith("fc"):
            continue
        key = name if "layer" in name else "stem." + name
        for stage in (1, 2, 3, 4):
            key = key.replace(f"layer{stage}", f"res{stage + 1}")
        for number in (1, 2, 3):
            key = key.replace(f"bn{number}", f"conv{number}.norm")
        key = key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        wanted[key] = value
    assert set(content["model"]) == set(wanted)
    assert {"stem.conv1.norm.running_var", "res3.0.shortcut.norm.bias"} < set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(content["model"][name], value, strict=True)


def changed(change):
    def write(plain, path):
        arrays = load_file(plain)
        change(arrays)
        save_file(arrays, path)

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.update({"layer9.weight": np.zeros((2, 5), np.float32)}),
            r"unknown key layer9.weight of shape \(2, 5\)",
        ),
        (
            lambda a: a.pop("layer2.1.bn1.weight"),
            r"missing key layer2.1.bn1.weight, expected with shape \(8,\)",
        ),
        (
            lambda a: a.update({"layer3.0.conv2.weight": np.zeros((3, 5, 3, 3), np.float32)}),
            r"layer3.0.conv2.weight has shape \(3, 5, 3, 3\), expected \(16, 16, 3, 3\)",
        ),
        (
            lambda a: a.update({"layer1.0.se.weight": np.zeros((2, 3, 4), np.float32)}),
            r"unknown key layer1.0.se.weight of shape \(2, 3, 4\)",
        ),
        (lambda a: a.pop("conv1.weight"), "lacks the key conv1.weight"),
        (
            lambda a: a.update({"conv1.weight": np.zeros((4, 3, 5, 5), np.float32)}),
            r"conv1.weight has shape \(4, 3, 5, 5\), expected \(width, 3, 7, 7\)",
        ),
        (
            lambda a: [a.pop(n) for n in list(a) if n.startswith("layer4.1")],
            r"no known encoder: basic blocks \(2, 2, 2, 1\)",
        ),
        (
            lambda a: a.update({"bn1.bias": np.full(4, np.nan, np.float32)}),
            "bn1.bias must hold finite",
        ),
        (
            lambda a: a.update({"bn1.bias": np.zeros(4, np.int32)}),
            "bn1.bias must hold finite numbers",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(plain, tmp_path, change, message):
    changed(change)(plain, tmp_path / "changed.safetensors")
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "changed.safetensors", tmp_path / "x.safetensors", to="moco-tf")
    assert [path.name for path in tmp_path.iterdir()] == ["changed.safetensors"]


@pytest.mark.parametrize("dtype", [np.float16, tf.bfloat16.as_numpy_dtype])
def test_half_precision_is_read_as_float32(plain, tmp_path, dtype):
    arrays = load_file(plain)
    half = {n: v.astype(dtype) if v.dtype == np.float32 else v for n, v in arrays.items()}
    save_file(half, tmp_path / "half.safetensors")
    convert(tmp_path / "half.safetensors", tmp_path / "x.safetensors", to="moco-tf")
    state = load_snapshot(tmp_path / "x.safetensors", warn=pytest.fail).state
    kernel = half["conv1.weight"].transpose(2, 3, 1, 0).astype(np.float32)
    np.testing.assert_array_equal(state["query_encoder/conv1/kernel"], kernel, strict=True)


class Evil:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_a_pickle_is_not_even_opened_without_torch(tmp_path, monkeypatch, capsys):
    marker, file = tmp_path / "ran", tmp_path / "evil.pth.tar"
    file.write_bytes(pickle.dumps({"state_dict": Evil(marker)}))
    monkeypatch.setitem(sys.modules, "torch", None)
    target = str(tmp_path / "x.safetensors")
    assert cli.main(["convert", str(file), target, "--to", "moco-tf"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install 'moco-tf[torch]'" in said and str(file) in said
    file.rename(tmp_path / "evil.safetensors")
    assert cli.main(["convert", str(tmp_path / "evil.safetensors"), target, "--to", "moco-tf"]) == 2
    with pytest.raises(InputError, match=r"evil.safetensors is not an encoder file of moco-tf"):
        load_encoder(tmp_path / "evil.safetensors", warn=pytest.fail)
    assert not marker.exists()


def test_writing_for_pytorch_names_the_extra(small_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'moco-tf\[torch\]'"):
        convert(small_run, tmp_path / "x.pth.tar", to="official")
    assert convert(small_run, tmp_path / "x.pkl", to="detectron2")["computed_with"] == [
        "TensorFlow",
        "TensorFlow",
    ]


def write_tar(path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "inside")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("hello"), "it begins with b'hello'"),
        (lambda path: path.touch(), "it is empty"),
        (write_tar, "it is a tar archive, which"),
        (lambda path: path.write_bytes(b"\x10" + bytes(7) + b"{broken"), "not a whole safetensors"),
        (lambda path: None, "there is no file or folder"),
        (lambda path: path.mkdir(), "is not a run folder: it has no config.json"),
    ],
)
def test_a_source_that_is_not_what_it_says_is_one_line(tmp_path, capsys, write, message):
    source = tmp_path / "moco.pth.tar"
    write(source)
    target = tmp_path / "x.safetensors"
    assert cli.main(["convert", str(source), str(target), "--to", "moco-tf"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("moco-tf: error: ") and said.count("\n") == 1
    assert message in said and str(source) in said and not target.exists()


def test_targets_are_checked_before_anything_is_read(tmp_path):
    existing = tmp_path / "there.safetensors"
    existing.write_text("keep")
    for target, to, message in [
        (existing, "moco-tf", "exists. Use another name, or --overwrite"),
        (tmp_path / "x.npz", "moco-tf", "must end in .safetensors; received .*x.npz"),
        (tmp_path / "x.pth", "detectron2", "must end in .pkl"),
        (tmp_path / "no" / "x.pkl", "detectron2", "there is no folder .*no to write x.pkl to"),
        (tmp_path / "x.pkl", "caffe", "received to='caffe'"),
    ]:
        with pytest.raises(InputError, match=message):
            convert("/absent", target, to=to)
    assert existing.read_text() == "keep"


def test_overwriting_and_json(small_run, tmp_path, capsys):
    target = tmp_path / "there.safetensors"
    target.write_text("old")
    arguments = ["convert", str(small_run), str(target), "--to", "moco-tf"]
    assert cli.main(arguments) == 2
    capsys.readouterr()
    assert cli.main([*arguments, "--overwrite", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["equal"] and result["source_format"] == "run" and result["step"] == 7
    assert cli.main(["convert", str(target), str(target), "--to", "moco-tf", "--overwrite"]) == 0
    said = capsys.readouterr().out
    assert "largest difference 0, " in said and f"wrote {target} for moco-tf" in said
    assert set(SUFFIXES) == {"official", "torchvision", "timm", "detectron2", "moco-tf", "keras"}


def test_unequal_features_leave_nothing_and_exit_with_one(small_run, tmp_path, monkeypatch, capsys):
    from moco_tf.convert import command

    right = command.to_state_dict

    def swapped(*arguments, **options):
        arrays = right(*arguments, **options)
        names = ["layer1.0.bn1.weight", "layer1.0.bn2.weight"]
        arrays[names[0]], arrays[names[1]] = arrays[names[1]], arrays[names[0]]
        return arrays

    monkeypatch.setattr(command, "to_state_dict", swapped)
    target = tmp_path / "x.safetensors"
    assert cli.main(["convert", str(small_run), str(target), "--to", "timm"]) == 1
    said = capsys.readouterr().out
    assert "NOT EQUAL" in said and "NOT identical" in said and "wrote nothing" in said
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_encoder_files_are_refused_by_name(small_run, plain, tmp_path):
    one = next(run_folder.checkpoint_folder(small_run).glob("step-*.safetensors"))
    with pytest.raises(InputError, match="is one checkpoint of a run"):
        load_encoder(one, warn=pytest.fail)
    with pytest.raises(InputError, match="is one checkpoint of a run"):
        convert(one, tmp_path / "x.safetensors", to="moco-tf")
    with pytest.raises(InputError, match=rf"moco-tf convert {plain} encoder.safetensors"):
        load_encoder(plain, warn=pytest.fail)
    file = tmp_path / "damaged.safetensors"
    convert(small_run, file, to="moco-tf")
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged.safetensors .*do not match their digest"):
        load_encoder(file, warn=pytest.fail)


@pytest.mark.parametrize(
    ("name", "shape"), [("conv1.weight", (5000, 3, 3, 3)), ("fc.2.weight", (10**6, 1))]
)
def test_a_few_large_arrays_make_no_large_encoder(plain, tmp_path, monkeypatch, name, shape):
    arrays = load_file(plain) | {name: np.zeros(shape, np.float32)}
    if name == "conv1.weight":
        arrays["layer1.0.conv1.weight"] = np.zeros((5000, 1, 1, 1), np.float32)
    save_file(arrays, tmp_path / "a.safetensors")
    monkeypatch.setattr("moco_tf.convert.reading.untrained_encoder", pytest.fail)
    with pytest.raises(InputError, match=r"query encoder: .* has shape .*, expected \("):
        convert(
            tmp_path / "a.safetensors", tmp_path / "x.safetensors", to="moco-tf", with_head=True
        )
