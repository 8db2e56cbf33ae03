"""embed: features equal to a twin's, rows that stay with their names, and files whole or absent."""

import csv
import hashlib
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import tracemalloc
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import moco_tf.exporting.embed
import moco_tf.training.signals
from moco_tf.commands.cli import main
from moco_tf.convert import convert
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError
from moco_tf.exporting import embed_files
from moco_tf.exporting.embed import embed as embed_run
from moco_tf.exporting.rows import Rows, one_line
from moco_tf.models import build_encoder
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder

pytestmark = pytest.mark.usefixtures("encoders_once")
embed = partial(embed_run, features="pooled", split="all")  # as `moco_tf.embed` calls it

SIDE = 16  # of small_run
BROKEN = "train/bee/1.png"


def noise(height, width, seed, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save_images(root, sizes, broken=()):
    for seed, (name, (height, width, *channels)) in enumerate(sizes.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(height, width, seed, *channels)).save(root / name)
    for name in broken:
        (root / name).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes, 8 + 3 images of many sizes, and a broken one in the middle of them."""
    sizes = {
        "train/ant/0.png": (16, 16),
        "train/ant/1.png": (40, 23),
        "train/ant/deep/er/2.png": (17, 90),
        "train/bee/0.png": (9, 12),
        BROKEN: (16, 16),
        "train/bee/2.png": (33, 33, 1),
        "train/bee/3.png": (23, 40, 4),
        "train/bee/a\\b\nc\td.png": (16, 16),
        "train/bee/z.bmp": (50, 41),
        "val/ant/0.png": (16, 16),
        "val/bee/0.png": (64, 31),
        "val/bee/1.gif": (16, 16, 1),
    }
    return save_images(tmp_path_factory.mktemp("pictures"), sizes, broken=[BROKEN])


ORDER = [
    "train/ant/0.png", "train/ant/1.png", "train/ant/deep/er/2.png", "train/bee/0.png",
    "train/bee/2.png", "train/bee/3.png", r"train/bee/a\\b\u000ac\u0009d.png", "train/bee/z.bmp",
    "val/ant/0.png", "val/bee/0.png", "val/bee/1.gif",
]  # fmt: skip


def path_of(root, name):
    return root / name.encode().decode("unicode_escape")


# The twin: Pillow's decoder, the filter's definition, the checkpoint's arrays


def filter_weights(size, target):
    """A triangle as wide as the reduction, float64 [target, size]."""
    scale = size / target
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def centre_crop_twin(path):
    image = np.asarray(Image.open(path).convert("RGB"), np.float64)
    height, width = image.shape[:2]
    if (height, width) == (SIDE, SIDE):
        return image
    new = [18 * side // min(height, width) for side in (height, width)]  # 16 * 256 / 224 = 18.3
    rows, columns = (filter_weights(*pair) for pair in zip((height, width), new, strict=True))
    resized = np.round(np.einsum("ih,hwc,jw->ijc", rows, image, columns)).clip(0, 255)
    top, left = (round((side - SIDE) / 2) for side in new)
    return resized[top : top + SIDE, left : left + SIDE]


@pytest.fixture(scope="module")
def twin(small_run):
    """A function: path of an image and which features -> float32 [D], one image at a time."""
    encoder = build_encoder(
        "resnet18", image_size=SIDE, stem="small", width=4, head="mlp", dim=6, group_size=8,
        group_layout="contiguous", running_statistics="mean", dtype="float32", seed=1,
    )  # fmt: skip
    arrays = load_file(run_folder.checkpoint_folder(small_run) / "step-00000007.safetensors")
    for variable in encoder.model.variables:
        variable.assign(arrays["query_encoder/" + "/".join(variable.path.split("/")[-2:])])
    name = json.loads((small_run / "config.json").read_text())["normalization"]
    mean, std = {
        "cifar10": ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
        "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    }[name]

    def features(path, which):
        inputs = ((centre_crop_twin(path) / 255 - mean) / std).astype(np.float32)[None]
        model = encoder.backbone if which == "pooled" else encoder.model
        return model(inputs, training=False).numpy()[0]

    return features


def names_of(file):
    return file.with_suffix(".names.txt").read_bytes().decode().split("\n")[:-1]


@pytest.mark.parametrize(("which", "dimensions"), [("pooled", 32), ("projection", 6)])
def test_features_equal_the_twins_and_stay_with_their_names(
    small_run, pictures, twin, tmp_path, monkeypatch, which, dimensions
):
    monkeypatch.setattr(moco_tf.exporting.embed, "BATCH", 3)  # the broken one inside a batch
    out = tmp_path / "new" / "folder" / "x.npy"
    result = embed(small_run, out, data=str(pictures), features=which, max_bad_images=0.2)
    found, names = np.load(out), names_of(out)
    assert names == ORDER
    assert found.dtype == np.float32 and found.shape == (11, dimensions)
    wanted = np.stack([twin(path_of(pictures, name), which) for name in names])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    apart = min(np.abs(a - b).max() for a, b in itertools.combinations(wanted, 2))
    assert apart > 1e-3  # so that a row at another name would be found out
    assert (result["images"], result["dimensions"], result["bad_images"]) == (11, dimensions, 1)
    assert result["splits"] == {"train": 8, "test": 3} and result["step"] == 7
    assert sorted(path.name for path in out.parent.iterdir()) == ["x.names.txt", "x.npy"]


@pytest.mark.slow
def test_the_formats_hold_the_same(small_run, pictures, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(moco_tf.exporting.embed, "BATCH", 2)
    monkeypatch.setattr(embed_files, "ROWS_A_GROUP", 4)
    for suffix in embed_files.SUFFIXES:
        embed(small_run, tmp_path / f"x{suffix}", data=str(pictures), max_bad_images=0.2)
    alone = np.load(tmp_path / "x.npy")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as z:
        arrays = {name: z[name] for name in z.files}
    table = pq.read_table(tmp_path / "x.parquet")
    assert sorted(arrays) == ["classes", "features", "labels", "names", "split"]
    assert table.schema.names == ["name", "split", "label", "class", "features"]
    assert table.schema.field("features").type == pa.list_(pa.float32(), 32)
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 3
    np.testing.assert_array_equal(arrays["features"], alone, strict=True)
    rows = np.stack(table["features"].to_numpy())
    np.testing.assert_array_equal(rows, alone, strict=True)
    assert arrays["names"].tolist() == table["name"].to_pylist() == ORDER
    split = ["train"] * 8 + ["test"] * 3
    assert arrays["split"].tolist() == table["split"].to_pylist() == split
    labels = [0] * 3 + [1] * 5 + [0, 1, 1]
    assert arrays["labels"].dtype == np.int64 and arrays["labels"].tolist() == labels
    assert table["label"].to_pylist() == labels
    assert arrays["classes"].tolist() == ["ant", "bee"]
    assert table["class"].to_pylist() == [("ant", "bee")[label] for label in labels]
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["name", "split", "label", "class", *(f"f{place}" for place in range(32))]
    whose = [ORDER, split, map(str, labels), table["class"].to_pylist()]
    assert [tuple(line[:4]) for line in lines] == list(zip(*whose, strict=True))
    np.testing.assert_array_equal(np.array([line[4:] for line in lines], np.float32), alone)


def test_a_csv_gives_back_every_float32_and_every_name(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, np.uint32).view(np.float32)
    values = bits[np.isfinite(bits)][:18_000].reshape(3, -1)
    names = ['a,b"c"', "é;x", " = 1"]
    rows = Rows(names, ["train"] * 3, np.array([1, -1, 0]), ("x,y", "z"))
    embed_files.save(tmp_path / "x.csv", lambda: rows, [values[:2], values[2:]])
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        _, *lines = csv.reader(file)
    assert [line[0] for line in lines] == names
    assert [line[2:4] for line in lines] == [["1", "z"], ["", ""], ["0", "x,y"]]
    found = np.array([line[4:] for line in lines], np.float64).astype(np.float32)
    np.testing.assert_array_equal(found, values)


# Names, splits, labels


def test_every_name_is_one_line_and_no_two_are_the_same():
    raw = [b"a\xe9", b"a\\xe9", "aé".encode(), b"a\nb", rb"a\u000ab", b"a\r", "a\u2028".encode()]
    names = [one_line(os.fsdecode(name)) for name in raw]
    assert names[:4] == [r"a\xe9", r"a\\xe9", "aé", r"a\u000ab"]
    assert len(set(names)) == len(raw)
    assert all(len(name.encode().decode().splitlines()) == 1 for name in names)


def test_names_that_are_no_utf8(small_run, twin, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    names = [b"cafe.png", b"caf\xe8.png", b"caf\xe9.png"]
    try:
        for seed, name in enumerate(names):
            with open(os.fsencode(data) + b"/" + name, "wb") as file:
                Image.fromarray(noise(SIDE, SIDE, seed)).save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    embed(small_run, tmp_path / "x.npy", data=str(data))
    assert names_of(tmp_path / "x.npy") == ["cafe.png", r"caf\xe8.png", r"caf\xe9.png"]
    wanted = [twin(data / os.fsdecode(name), "pooled") for name in names]
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), wanted, atol=1e-5)


def npz_data(folder, **changes):
    arrays = {f"x_{part}": np.stack([noise(SIDE, SIDE, seed) for seed in range(start, start + n)])
              for part, start, n in (("train", 0, 5), ("test", 9, 3))}  # fmt: skip
    arrays |= {"y_train": np.array([4, 2, 4, 2, 4]), "y_test": np.array([2, 2, 4])} | changes
    np.savez(folder / "data.npz", **{k: a for k, a in arrays.items() if a is not None})
    return str(folder / "data.npz")


def test_images_without_files_are_named_by_split_and_place(small_run, tmp_path):
    data, features = npz_data(tmp_path), {}
    for split, wanted in (
        ("all", [f"train/{i}" for i in range(5)] + [f"test/{i}" for i in range(3)]),
        ("train", [f"train/{i}" for i in range(5)]),
        ("test", [f"test/{i}" for i in range(3)]),
    ):
        out = tmp_path / f"{split}.npz"
        result = embed(small_run, out, data=data, split=split)
        with np.load(out) as z:
            assert z["names"].tolist() == wanted
            assert [name.split("/")[0] for name in wanted] == z["split"].tolist()
            assert z["classes"].tolist() == ["2", "4"]
            features[split], labels = z["features"], z["labels"].tolist()
        assert labels == {"train": [1, 0, 1, 0, 1], "test": [0, 0, 1]}.get(split, labels)
        assert sum(result["splits"].values()) == len(wanted)
    parts = np.concatenate([features["train"], features["test"]])
    np.testing.assert_allclose(parts, features["all"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_unknown_classes(small_run, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    names = ("train/ant/0.png", "train/bee/0.png", "test/0.png", "test/1.png")
    data = save_images(tmp_path / "data", dict.fromkeys(names, (16, 16)))
    said = []
    reporter = SimpleNamespace(line=said.append)
    embed(small_run, tmp_path / "x.npz", data=str(data), reporter=reporter)
    embed(small_run, tmp_path / "x.parquet", data=str(data), reporter=reporter)
    assert any("images in no class folder" in line for line in said)
    with np.load(tmp_path / "x.npz") as z:
        assert z["labels"].tolist() == [0, 1, -1, -1]
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["label"].to_pylist() == [0, 1, None, None]
    assert table["class"].to_pylist() == ["ant", "bee", None, None]
    embed(small_run, tmp_path / "y.npz", data=str(data / "test"))  # no classes at all
    with np.load(tmp_path / "y.npz") as z:
        assert z.files == ["features", "names", "split"]
        assert z["names"].tolist() == ["0.png", "1.png"] and set(z["split"]) == {"train"}


# What a RUN may be


@pytest.mark.slow
def test_a_converted_file_and_a_backbone_alone(small_run, tmp_path, capsys):
    data, arrays = npz_data(tmp_path), []
    file, plain = tmp_path / "encoder.safetensors", tmp_path / "plain.safetensors"
    bare = tmp_path / "bare.safetensors"
    convert(small_run, file, to="moco-tf")
    convert(small_run, plain, to="torchvision")
    convert(plain, bare, to="moco-tf", image_size=SIDE)
    for number, source in enumerate((small_run, file)):
        embed(str(source), tmp_path / f"{number}.npy", data=data)
        arrays.append(np.load(tmp_path / f"{number}.npy"))
    np.testing.assert_array_equal(*arrays)
    out = ["--out", str(tmp_path / "x.npy")]
    for flags, message in (
        ([], "does not say which images to use"),
        (["--data", data, "--features", "projection"], "no projection head"),
    ):
        assert main(["embed", str(bare), *out, *flags]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and message in said
    assert main(["embed", str(bare), *out, "--data", data]) == 0
    assert np.load(tmp_path / "x.npy").shape == (8, 32)


def test_json_is_one_object(small_run, tmp_path, capsys):
    out = tmp_path / "x.npz"
    flags = ["--data", npz_data(tmp_path), "--split", "test", "--json"]
    assert main(["embed", str(small_run), "--out", str(out), *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.pop("images_per_second") > 0
    assert "pooled features (32 numbers, not normalised)" in result["protocol"]
    assert "at step 7" in result["protocol"] and "3 test images" in result.pop("protocol")
    assert result == {
        "out": str(out), "images": 3, "dimensions": 32, "features": "pooled", "bad_images": 0,
        "left_out": {},
        "splits": {"test": 3}, "classes": 2, "step": 7, "projector": None, "projector_points": 0,
    }  # fmt: skip


# What is refused


@pytest.mark.parametrize(
    ("run", "out", "flags", "message"),
    [
        ("", "x.tsv", [], "out must end in .npy, .npz, .parquet, .csv; received out="),
        ("", "there.npz", [], "there.npz exists. Use another name, or --overwrite"),
        ("", "there.npy", [], "there.names.txt exists"),
        ("", "folder.npz", ["--overwrite"], "folder.npz exists"),
        ("", "there.npz/x.npz", [], "cannot create the folder"),
        ("", "data.npz", ["--overwrite"], "is a file to read from"),
        ("", "x.npz", ["--projector", "{}/there.npz"], "is a file. Give a folder"),
        ("", "x.npz", ["--projector", "{}/points"], "holds projector_config.pbtxt already"),
        ("", "x.npz", ["--data", "{}/nothing"], "there is no such file or folder"),
        ("", "x.npz", ["--data", "{}/folder.npz"], "holds no image"),
        ("", "x.npz", ["--data", "{}/whole", "--split", "test"], "split='test'"),
        ("", "x.npz", ["--data", "{}/pictures", "--max-bad-images", "0"], "1 of 2 images"),
        ("/nothing", "x.npz", [], "not a run folder"),
        ("/empty", "x.npz", [], "holds no checkpoint yet"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    small_run, tmp_path, capsys, run, out, flags, message
):
    for name in ("there.npz", "there.names.txt"):
        (tmp_path / name).write_text("keep")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "projector_config.pbtxt").write_text("keep")
    (tmp_path / "empty").mkdir()
    shutil.copy(small_run / "config.json", tmp_path / "empty")
    save_images(tmp_path / "pictures", {"a.png": (16, 16), "b.png": (16, 16)}, ["b.png"])
    save_images(tmp_path / "whole", {"a.png": (16, 16)})
    data = npz_data(tmp_path)
    before = contents(tmp_path)
    flags = [flag.format(tmp_path) for flag in flags]
    flags += [] if "--data" in flags else ["--data", data]
    where = str(tmp_path) + run if run else str(small_run)
    assert main(["embed", where, "--out", str(tmp_path / out), *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("moco-tf: error: ") and said.count("\n") == 1
    assert message in said and contents(tmp_path) == before


def contents(folder):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_without_pyarrow_parquet_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert (
        main(["embed", "/absent", "--data", "/absent", "--out", str(tmp_path / "x.parquet")]) == 2
    )
    said = capsys.readouterr().err
    assert "pip install 'moco-tf[parquet]'" in said and said.count("\n") == 1


def test_a_share_is_from_0_to_1(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["embed", "run", "--out", "x.npy", "--max-bad-images", "2"])
    assert "from 0 to 1; received 2" in capsys.readouterr().err


def test_features_that_are_not_finite_are_refused(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    folder = run_folder.checkpoint_folder(run)
    state, _, _ = checkpoint.load_latest(folder, warn=pytest.fail)
    state = dict(state) | {"query_encoder/fc.2/bias": np.full(6, np.nan, np.float32)}
    checkpoint.save(folder, state, step=8, extra={})
    out, data = tmp_path / "x.npz", npz_data(tmp_path)
    with pytest.raises(InputError, match="are not all finite: the encoder has diverged"):
        embed(str(run), out, data=data, features="projection")
    assert not list(tmp_path.glob("*x.npz*"))
    embed(str(run), out, data=data)  # the backbone is sound


# Whole or not at all


@pytest.mark.parametrize("suffix", embed_files.SUFFIXES)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_what_was_there(
    small_run, tmp_path, monkeypatch, capsys, suffix, number, code
):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    data, original = npz_data(tmp_path), moco_tf.exporting.embed.eval_batches
    monkeypatch.setattr(moco_tf.exporting.embed, "BATCH", 2)

    def interrupted(*args, **settings):
        for place, batch in enumerate(original(*args, **settings)):
            if place == 1:
                signal.raise_signal(number)
            yield batch

    monkeypatch.setattr(moco_tf.exporting.embed, "eval_batches", interrupted)
    out = tmp_path / f"x{suffix}"
    arguments = ["embed", str(small_run), "--data", data, "--out", str(out)]
    arguments += ["--projector", str(tmp_path / "points")]
    assert main(arguments) == code
    assert f"interrupted: nothing was written to {out}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]
    for file in embed_files.files_of(out):
        file.write_text("old")
    assert main([*arguments, "--overwrite"]) == code
    assert {file.read_text() for file in embed_files.files_of(out)} == {"old"}
    assert not list(tmp_path.glob(".*"))


def test_an_interruption_while_the_rows_are_written_leaves_nothing(
    small_run, tmp_path, monkeypatch, capsys
):
    data, original = npz_data(tmp_path), moco_tf.exporting.embed.rows_of

    def interrupted(parts):
        signal.raise_signal(signal.SIGTERM)
        return original(parts)

    monkeypatch.setattr(moco_tf.exporting.embed, "rows_of", interrupted)
    out = tmp_path / "x.csv"
    assert main(["embed", str(small_run), "--data", data, "--out", str(out)]) == 143
    assert f"interrupted: nothing was written to {out}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_interrupted_while_the_images_are_opened(small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(moco_tf.training.signals, "_received", [])
    opening = lambda *a, **k: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(moco_tf.exporting.embed, "open_images", opening)
    assert main(["embed", str(small_run), "--out", str(tmp_path / "x.npy")]) == 143
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", embed_files.SUFFIXES)
def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    out = tmp_path / f"x{suffix}"
    for file in embed_files.files_of(out):
        file.write_text("old")
    rows = Rows([str(i) for i in range(6000)], ["train"] * 6000, None, ())
    batches = (np.random.default_rng(i).random((100, 64), np.float32) for i in range(60))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(InputError, match=f"cannot write .*x{suffix}: File too large"):
            embed_files.save(out, lambda: rows, batches)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


def test_an_image_that_breaks_on_the_way_ends_it_in_one_line(
    small_run, tmp_path, monkeypatch, capsys
):
    data = save_images(tmp_path / "data", {f"{i}.png": (16, 16) for i in range(5)})

    def then_broken(*args, **settings):
        parts = open_images(*args, **settings)
        (data / "3.png").write_bytes(b"broken")
        return parts

    monkeypatch.setattr(moco_tf.exporting.embed, "open_images", then_broken)
    out = tmp_path / "x.npz"
    assert main(["embed", str(small_run), "--data", str(data), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"1 of 5 images cannot be read, more than max_bad_images=0.01: {data / '3.png'}" in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_two_at_once_to_one_file(tmp_path):
    out, rows = tmp_path / "x.npy", Rows(["a"], ["train"], None, ())

    def meanwhile():
        with pytest.raises(InputError, match="is being written by another process"):
            embed_files.save(out, lambda: rows, [np.zeros((1, 2), np.float32)])
        yield np.ones((1, 2), np.float32)

    embed_files.save(out, lambda: rows, meanwhile())
    np.testing.assert_array_equal(np.load(out), np.ones((1, 2)))


@pytest.mark.parametrize(
    "suffix",
    [pytest.param(s, marks=[pytest.mark.long] * (s == ".csv")) for s in embed_files.SUFFIXES],
)
def test_memory_does_not_grow_with_the_features(tmp_path, monkeypatch, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    monkeypatch.setattr(embed_files, "ROWS_A_GROUP", 256)
    count, width = 20 if suffix == ".csv" else 100, 1024  # batches and groups of 1 MiB
    rows = Rows([str(i) for i in range(256 * count)], ["train"] * 256 * count, None, ())
    batches = (np.full((256, width), i, np.float32) for i in range(count))
    tracemalloc.start()
    try:
        embed_files.save(tmp_path / f"x{suffix}", lambda: rows, batches)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if suffix in (".npy", ".npz"):
        assert (tmp_path / f"x{suffix}").stat().st_size > 100_000_000
    assert peak < 0.4 * count * 2**20
