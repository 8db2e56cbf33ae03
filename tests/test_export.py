"""Exports: each format against the encoder, the files in it, the card, and what is refused."""

import errno
import json
import math
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.encoder_files import (
    DEEP,
    PLACES,
    SNIPPETS,
    TINY,
    features,
    need,
    normalized,
    pixels,
    save,
)

from moco_tf.commands import cli
from moco_tf.commands.export import FORMATS
from moco_tf.config import Config
from moco_tf.data.pipeline import eval_batches
from moco_tf.data.sources import from_arrays
from moco_tf.errors import InputError
from moco_tf.exporting import command, pictures, targets
from moco_tf.exporting.command import export
from moco_tf.exporting.plain import plain_model
from moco_tf.exporting.results import known_results
from moco_tf.exporting.writing import write
from moco_tf.recipes import RECIPES
from moco_tf.runs import folder as run_folder
from moco_tf.runs import snapshot as encoder_file
from moco_tf.runs.encoders import load_encoder
from moco_tf.runs.snapshot import CONVERTED, EncoderCheckpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", **TINY)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return save(tmp_path_factory.mktemp("deep") / "deep.safetensors", **DEEP)


@pytest.fixture(scope="module")
def exported(deep, tmp_path_factory):
    """A function: format -> (folder, result) of one export of `deep`."""

    @cache
    def exported(to):
        folder = tmp_path_factory.mktemp(to)
        return folder, export(deep, folder / PLACES[to], to=to, warn=pytest.fail)

    return exported


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def written_once(kept, monkeypatch, tmp_path_factory):
    """Exports of `tiny` without options copy what was written, and what was loaded, at the first.

    For tests of what happens around it.
    """
    write, load = command.write, command.runtimes.load

    def copied(model, path, *, to):
        if to not in kept:
            whole = tmp_path_factory.mktemp(to) / path.name
            write(model, whole, to=to)
            kept[to] = whole, load(whole, to=to)
        copy = shutil.copytree if kept[to][0].is_dir() else shutil.copy
        copy(kept[to][0], path)

    monkeypatch.setattr(command, "write", copied)
    monkeypatch.setattr(command.runtimes, "load", lambda path, *, to: kept[to][1])


def run_snippet(to, images, folder, monkeypatch):
    """What the code in the documentation makes of `images`, run in `folder`."""
    monkeypatch.chdir(folder)
    scope = {"images": images}
    exec(SNIPPETS[to], scope)
    return np.asarray(scope["features"])


def assert_equal(found, wanted, tolerance=1e-5):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


# The formats


def rare_but(quick, mark=pytest.mark.long):
    """The formats, all but the `quick` one with the mark."""
    return [pytest.param(f, marks=[mark] * (f != quick)) for f in FORMATS]


@pytest.mark.parametrize("to", rare_but("keras", pytest.mark.slow))
def test_a_basic_encoder_with_head_and_preprocessing(tiny, tmp_path, monkeypatch, to):
    need(to)
    settings = {"with_head": True, "with_preprocessing": True}
    result = export(tiny, tmp_path / PLACES[to], to=to, **settings, warn=pytest.fail)
    assert result["equal"] and 0 <= result["largest_error"] < 1e-5
    assert (result["features"], result["output"], result["images"]) == ("projection", 6, 16)
    for count in (1, 3):
        images = pixels(16, count)
        found = run_snippet(to, images, tmp_path, monkeypatch)
        assert_equal(found, features(tiny, images, head=True))
    if to == "savedmodel":
        images = np.random.default_rng(2).integers(0, 256, (2, 23, 37, 3)).astype(np.uint8)
        settings = {"indices": [0, 1], "image_size": 16, "batch_size": 2}
        prepared = next(iter(eval_batches(from_arrays("odd", images), **settings)))
        found = run_snippet(to, images, tmp_path, monkeypatch)
        assert_equal(found, features(tiny, prepared, head=True))


@pytest.mark.slow
@pytest.mark.parametrize("to", rare_but("onnx"))
def test_a_bottleneck_encoder_of_normalised_images(deep, exported, monkeypatch, to):
    need(to)
    folder, result = exported(to)
    assert result["equal"] and (result["features"], result["output"]) == ("pooled", 128)
    images = pixels(40)
    found = run_snippet(to, normalized(images, "imagenet"), folder, monkeypatch)
    assert found.dtype == np.float32 and found.shape == (3, 128)
    assert_equal(found, features(deep, images))


@pytest.mark.slow
def test_a_keras_file_needs_nothing_of_this_package(tiny, tmp_path):
    export(tiny, tmp_path / "encoder.keras", to="keras")
    images = pixels(16)
    np.save(tmp_path / "images.npy", normalized(images, "cifar10"))
    code = (
        "import sys; sys.modules['moco_tf'] = None\n"
        "import numpy as np; images = np.load('images.npy')\n"
        f"{SNIPPETS['keras']}\n"
        "kinds = {type(layer).__module__.split('.')[0] for layer in model.layers}\n"
        "assert kinds == {'keras'}, kinds\n"
        "np.save('features.npy', features)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert_equal(np.load(tmp_path / "features.npy"), features(tiny, images))


@pytest.mark.slow
def test_an_onnx_graph_is_the_resnet_and_no_more(exported):
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    graph = onnx.load(exported("onnx")[0] / PLACES["onnx"]).graph
    kinds = [node.op_type for node in graph.node]
    wanted = {"Conv": 53, "Relu": 49, "Add": 16, "MaxPool": 1, "AveragePool": 3, "Pad": 1}
    wanted |= {"Transpose": 1, "GlobalAveragePool": 1, "Squeeze": 1}  # BatchNorm is in the Conv
    assert {kind: kinds.count(kind) for kind in kinds} == wanted
    for value, sizes in ((graph.input[0], [40, 40, 3]), (graph.output[0], [128])):
        dims = value.type.tensor_type.shape.dim
        assert [d.dim_param or d.dim_value for d in dims] == ["batch", *sizes]
    assert (graph.input[0].name, graph.output[0].name) == ("images", "features")


def test_the_constants_of_a_normalization_layer_are_in_the_onnx_graph(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    mean, variance = np.array([1.0, 2, 3]), np.array([4.0, 1, 9])
    inputs = keras.Input((4, 4, 3), name="images")
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Normalization(-1, mean, variance)]
    )
    outputs = keras.layers.GlobalAveragePooling2D()(inner(inputs))
    write(keras.Model(inputs, outputs), tmp_path / "encoder.onnx", to="onnx")
    session = runtime.InferenceSession(str(tmp_path / "encoder.onnx"))
    assert [one.name for one in session.get_inputs()] == ["images"]
    images = np.random.default_rng(0).normal(0, 9, (2, 4, 4, 3)).astype(np.float32)
    wanted = (images.mean(axis=(1, 2)) - mean) / np.sqrt(variance)
    np.testing.assert_allclose(
        session.run(None, {"images": images})[0], wanted, rtol=1e-5, atol=1e-5
    )


def test_a_grouped_convolution_and_a_gelu_are_in_the_onnx_graph(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    inputs = keras.Input((4, 4, 2), name="images")
    convolution = keras.layers.Conv2D(2, 1, groups=2)
    features = keras.layers.GlobalAveragePooling2D()(convolution(inputs))
    outputs = keras.layers.Activation("gelu")(features)
    convolution.kernel.assign([[[[0.5, -2.0]]]])
    write(keras.Model(inputs, outputs), tmp_path / "encoder.onnx", to="onnx")
    session = runtime.InferenceSession(str(tmp_path / "encoder.onnx"))
    images = np.random.default_rng(0).normal(0, 3, (2, 4, 4, 2)).astype(np.float32)
    x = images.mean(axis=(1, 2)) * [0.5, -2.0]
    wanted = x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    np.testing.assert_allclose(session.run(None, {"images": images})[0], wanted, atol=1e-5)


@pytest.mark.slow
def test_wrong_statistics_are_caught_and_leave_nothing(tiny, tmp_path, monkeypatch, capsys):
    def wrong(*arguments, **settings):
        model = plain_model(*arguments, **settings)
        mean, variance = model.get_layer("layer4.1.bn2").non_trainable_variables
        mean.assign(variance)
        return model

    monkeypatch.setattr(command, "plain_model", wrong)
    old = tmp_path / "old.keras"
    old.write_text("keep")
    flags = ["export", str(tiny), "--format", "keras"]
    assert cli.main([*flags, "--out", str(tmp_path / "e.keras")]) == 1
    said = capsys.readouterr().out
    assert "NOT EQUAL (tolerance 1e-05)" in said and "wrote nothing to" in said
    assert cli.main([*flags, "--out", str(old), "--overwrite", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["equal"] and result["largest_error"] > 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["old.keras"]
    assert old.read_text() == "keep"


# The images


def test_a_folder_gives_its_test_images_and_only_those_wanted_are_opened(tmp_path):
    config = Config(**TINY | {"data": str(tmp_path / "d")})
    for part, count in (("train", 2), ("val", 40)):
        (tmp_path / "d" / part).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(np.full((20 + number, 31, 3), number, np.uint8))
            image.save(tmp_path / "d" / part / f"{number:02d}.png")
    (tmp_path / "d" / "val" / "06.png").write_text("damaged, but not among the sixteen")
    found = pictures.comparison_images(None, config, warn=pytest.fail)
    places = np.linspace(0, 39, 16).astype(int)
    assert [image.shape for image in found.raw] == [(20 + place, 31, 3) for place in places]
    assert [image[0, 0, 0] for image in found.prepared] == places.tolist()
    (tmp_path / "d" / "val" / "39.png").write_text("damaged")
    assert len(pictures.comparison_images(None, config, warn=pytest.fail).raw) == 15


def test_where_the_runs_images_are_gone_shapes_are_drawn_and_it_is_said(capsys):
    said = []
    config = Config(**TINY | {"data": "/absent"})
    found = pictures.comparison_images(None, config, warn=said.append)
    assert found.data == "shapes" and "data='/absent'" in said[0]
    config = config.model_copy(update={"recipe": CONVERTED})
    again = pictures.comparison_images(None, config, warn=pytest.fail)
    np.testing.assert_array_equal(again.prepared, found.prepared)
    with pytest.raises(InputError, match="data='/nothing'"):
        pictures.comparison_images("/nothing", config, warn=pytest.fail)


def test_the_shapes_are_the_runs_own_test_images():
    from moco_tf.data.sources import open_images

    found = pictures.comparison_images(None, Config(**TINY), warn=pytest.fail).prepared
    test = open_images("shapes", seed=3, image_size=16)[1]
    np.testing.assert_array_equal(found, [test.read(tf.constant(i)).numpy() for i in range(16)])


# The card


@pytest.mark.slow
def test_the_card_of_a_run_tells_its_results_and_licence(small_run, tmp_path, capsys):
    results = {
        "summary.json": {"knn_top1": 61.25, "knn_top1_untrained": 20.5, "step": 7},
        "probe/summary.json": {"top1": 55.5, "top5": 88.75, "protocol": "By the linear protocol."},
        "probe-quick/summary.json": {"top1": 54.0, "top5": 90.0, "protocol": "By ridge."},
        "finetune/summary.json": {
            "top1": 70.0,
            "top5": 95.0,
            "protocol": "All layers.",
            "from_scratch": False,
        },
        "finetune-scratch/summary.json": {
            "top1": 33.0,
            "top5": 44.0,
            "protocol": "From random.",
            "from_scratch": True,
        },
        "earlier/summary.json": {
            "top1": 11.0,
            "top5": 22.0,
            "protocol": "Of step 3.",
            "encoder_step": 3,
        },
        "odd/summary.json": {"top1": None, "top5": "x", "protocol": "Odd."},
        "broken/summary.json": [],
    }
    try:
        for name, summary in results.items():
            (small_run / name).parent.mkdir(exist_ok=True)
            (small_run / name).write_text(json.dumps(summary))
        out = tmp_path / "folder"
        flags = ["--format", "savedmodel", "--out", str(out), "--data-licence", "CC0-1.0"]
        assert cli.main(["export", str(small_run), *flags]) == 0
    finally:
        for name in results:
            (small_run / name).unlink()
    said = capsys.readouterr().out
    assert f"wrote {out} (" in said and "equal (tolerance 1e-05)" in said
    card = (out / "README.md").read_text()
    version = run_folder.versions()["tensorflow"]
    for text in (
        "kNN top-1 61.25 % at step 7",
        "untrained encoder 20.50 %",
        "probe: top-1 55.50 %, top-5 88.75 %. By the linear protocol.",
        "probe-quick: top-1 54.00 %, top-5 90.00 %. By ridge.",
        "finetune (this encoder, trained further): top-1 70.00 %, top-5 95.00 %. All layers.",
        "licence of the data: CC0-1.0",
        "resnet18, width 4, small stem, images of 16 x 16",
        "float32 [batch, 16, 16, 3]",
        "mean [0.485, 0.456, 0.406]",
        "short side of 18",
        "float32 [batch, 32]: pooled features",
        "recipe shapes (MoCo: queue 20, ",
        "step 7, epoch 2 of 8",
        f"tensorflow {version}",
        "on 16 images of shapes: largest error ",
    ):
        assert text in card, text
    for text in ("broken", "From random", "Of step 3", "Odd."):
        assert text not in card
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.slow
def test_a_fine_tuned_encoder_gives_logits_and_names_its_classes(tmp_path):
    origin = {"source": "runs/a/finetune", "format": "finetune", "epoch": 3}
    origin |= {"class_names": ["ant", "bee", "cat"], "protocol": "Fine-tuning of all layers."}
    settings = TINY | {"head": "linear", "dim": 3}
    run = save(tmp_path / "encoder.safetensors", origin, **settings)
    summary = {"top1": 77.5, "top5": 100.0, "from_scratch": False, "protocol": "On 9 images."}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    result = export(run, tmp_path / "e.keras", to="keras", with_head=True)
    assert (result["features"], result["output"]) == ("logits", 3)
    card = (tmp_path / "e.keras.md").read_text()
    assert "classes in order: ant, bee, cat" in card and "Fine-tuning of all layers." in card
    assert "fine-tuned (this encoder): top-1 77.50 %, top-5 100.00 %. On 9 images." in card
    export(run, tmp_path / "e.keras", to="keras", overwrite=True)
    assert "classes in order" not in (tmp_path / "e.keras.md").read_text()


def test_the_global_precision_of_keras_changes_no_export(tiny, global_policy):
    images = normalized(pixels(16), "cifar10")
    ours, _, _ = load_encoder(tiny, warn=pytest.fail)

    def exported():
        return plain_model(ours, head=False, normalization=None, source=tiny)(images)

    wanted = exported()
    global_policy("mixed_float16")
    found = exported()
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, wanted)


# What is refused


@pytest.mark.slow
@pytest.mark.usefixtures("written_once")
def test_a_folder_with_more_than_a_saved_model_is_not_taken_away(tiny, tmp_path, capsys):
    out = tmp_path / "host"
    flags = ["--format", "savedmodel", "--out", str(out)]
    assert cli.main(["export", str(tiny), *flags]) == 0
    (out / "notes.txt").write_text("keep")
    assert cli.main(["export", str(tiny), *flags, "--overwrite"]) == 2
    assert "is not a SavedModel and nothing else" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "keep"


@pytest.mark.slow
@pytest.mark.usefixtures("written_once")
def test_a_signal_between_the_renames_brings_the_old_folder_back(tiny, tmp_path, monkeypatch):
    out = tmp_path / "e"
    export(tiny, out, to="savedmodel")
    (out / "README.md").write_text("old")
    rename = command.os.rename

    def interrupted(source, target):
        rename(source, target)
        if Path(source) == out:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(tiny, out, to="savedmodel", overwrite=True)
    assert (out / "README.md").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_a_card_that_cannot_be_written_leaves_the_export_as_it_was(tiny, tmp_path, capsys):
    (tmp_path / "e.keras").write_text("keep")
    (tmp_path / "e.keras.md").mkdir()
    flags = ["--format", "keras", "--out", str(tmp_path / "e.keras"), "--overwrite"]
    assert cli.main(["export", str(tiny), *flags]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert (tmp_path / "e.keras").read_text() == "keep"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "keras", "--out", "e.h5"], "must end in .keras; received --out e.h5"),
        (["--format", "onnx", "--out", "e.keras"], "must end in .onnx; received --out e.keras"),
        (["--format", "litert", "--out", "e"], "must end in .tflite; received --out e"),
        (["--format", "savedmodel", "--out", "e.onnx"], "a SavedModel is a folder"),
        (["--format", "keras", "--out", "no/e.keras"], "there is no folder no to write e.keras"),
        (["--format", "keras", "--out", "there.keras"], "exists. Use another --out, or --over"),
        (["--format", "keras", "--out", "carded.keras"], "carded.keras.md exists"),
        (["--format", "keras", "--out", "dir.keras", "--overwrite"], "is not a file, so it is not"),
        (["--format", "savedmodel", "--out", "dir.keras", "--overwrite"], "is a folder"),
        (
            ["--format", "savedmodel", "--out", "mine", "--overwrite"],
            "is not a SavedModel and nothing else, so",
        ),
        (["--format", "keras", "--out", "e.keras", "--data", "/absent"], "data='/absent'"),
        (["--format", "keras", "--out", "e.keras", "--with-head"], "bare.safetensors has no head"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    bare = save(tmp_path / "bare.safetensors", **TINY | {"head": "none"})
    (tmp_path / "there.keras").write_text("keep")
    (tmp_path / "carded.keras.md").write_text("keep")
    for folder in ("dir.keras", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "precious.txt").write_text("keep")
    before = sorted(tmp_path.rglob("*"))
    finds = SimpleNamespace(find_spec=lambda name: name)
    there = SimpleNamespace(import_module=lambda name: name, util=finds)
    monkeypatch.setattr(targets, "importlib", there)
    assert cli.main(["export", str(bare), *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("moco-tf: error: ") and message in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_checkpoint_and_what_is_no_run_are_refused(tmp_path, capsys):
    run_folder.claim(tmp_path / "run", Config(**TINY))
    for run, message in (
        (tmp_path / "run", "holds no checkpoint yet"),
        (tmp_path / "absent", "is not a run folder"),
    ):
        out = tmp_path / "e.keras"
        assert cli.main(["export", str(run), "--format", "keras", "--out", str(out)]) == 2
        assert message in capsys.readouterr().err and not out.exists()
    with pytest.raises(SystemExit):
        cli.main(["export", "run", "--format", "caffe", "--out", "x"])
    assert "'caffe'" in capsys.readouterr().err
    with pytest.raises(InputError, match="format='caffe'"):
        export("run", "x", to="caffe")


@pytest.mark.parametrize(
    ("to", "package"),
    [(to, package) for to in ("onnx", "litert") for package in FORMATS[to].packages],
)
def test_a_missing_extra_is_named_before_anything_is_read(monkeypatch, capsys, to, package):
    for other in FORMATS[to].packages:
        monkeypatch.setitem(sys.modules, other, __import__("json"))  # there
    monkeypatch.setitem(sys.modules, package, None)
    flags = ["--format", to, "--out", "/absent/" + PLACES[to]]
    assert cli.main(["export", "/absent", *flags]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and package in said and "pip install 'moco-tf[export]'" in said


def test_a_format_is_looked_up_without_tensorflow():
    for package in FORMATS["onnx"].packages:
        pytest.importorskip(package, reason="needs the extra export")
    code = (
        "import sys; from moco_tf.exporting.targets import check_format\n"
        "check_format('onnx'); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_diverged_encoder_and_one_too_large_for_the_format_are_refused(
    tiny, tmp_path, monkeypatch
):
    settings = {name: value for name, value in TINY.items() if name != "seed"}
    run = save(tmp_path / "nan.safetensors", **settings)
    snapshot = encoder_file.read_file(run)
    state = dict(snapshot.state)
    state["query_encoder/bn1/gamma"] = np.full(4, np.nan, np.float32)
    run.write_bytes(encoder_file.to_bytes(EncoderCheckpoint(state, snapshot.config, 9, {})))
    with pytest.raises(InputError, match=r"nan.safetensors are not all finite"):
        export(run, tmp_path / "e.keras", to="keras")
    small = targets.Format(".onnx", (), 1e-4, 100)
    monkeypatch.setitem(targets.FORMATS, "onnx", small)
    with pytest.raises(InputError, match="a file of --format onnx holds no more than 2"):
        export(tiny, tmp_path / "e.onnx", to="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["nan.safetensors"]


@pytest.mark.slow
@pytest.mark.usefixtures("written_once")
def test_overwriting_replaces_a_file_and_a_saved_model(tiny, tmp_path):
    for to, out in (("keras", tmp_path / "e.keras"), ("savedmodel", tmp_path / "folder")):
        if to == "keras":
            out.write_text("old")
        else:
            out.mkdir()
            (out / targets.SAVED_MODEL).write_text("old")
        assert export(tiny, out, to=to, overwrite=True)["equal"]
        assert "resnet18, width 4" in targets.card_path(out, to).read_text()
    assert (tmp_path / "folder" / "variables").is_dir()
    assert {p.name for p in tmp_path.iterdir()} == {"e.keras", "e.keras.md", "folder"}


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tiny, tmp_path, monkeypatch, capsys):
    def full(model, path, *, to):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command, "write", full)
    (tmp_path / "e.keras").write_text("keep")
    flags = ["--format", "keras", "--out", str(tmp_path / "e.keras"), "--overwrite"]
    assert cli.main(["export", str(tiny), *flags]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"no space left to write {tmp_path / 'e.keras'} (" in said
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("e.keras", "keep")]


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"knn_top1": 1' + "0" * 400 + ', "step": 7}', '{"knn_top1": NaN, "step": 7}'],
)
def test_a_summary_that_is_none_gives_no_result(tmp_path, text):
    (tmp_path / "probe").mkdir()
    for folder in (tmp_path, tmp_path / "probe"):
        (folder / "summary.json").write_text(text)
    assert known_results(tmp_path, RECIPES["shapes"].config, 7) == []


def test_what_a_kill_has_left_goes_and_the_old_export_gets_its_name_back(tmp_path):
    left = tmp_path / ".e.export"
    (left / "old").mkdir(parents=True)
    (left / "old" / "README.md").write_text("old")
    (left / "e").mkdir()
    (left / "half.onnx").write_text("half")
    with command._staging(tmp_path / "e") as staging:
        assert list(staging.iterdir()) == []
        assert (tmp_path / "e" / "README.md").read_text() == "old"
        (staging / "new").write_text("new")
        with (
            pytest.raises(InputError, match="written by another process"),
            command._staging(tmp_path / "e"),
        ):
            pass
        assert (staging / "new").exists()  # the other leaves it alone
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
