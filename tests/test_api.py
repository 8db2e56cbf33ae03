"""`moco_tf`'s functions: the commands' results, from Python; a process that stays the user's."""

import inspect
import json
import random
import signal
import threading
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf
from PIL import Image
from support.labelled_run import make_run, save_npz
from support.runs import TINY, metrics

import moco_tf
import moco_tf.pretraining
from moco_tf.commands.cli import main
from moco_tf.errors import InputError
from moco_tf.files.digests import read_json
from moco_tf.training.signals import Interrupted

SIGNATURES = {
    "pretrain": "recipe * data backbone run_dir augment callbacks extend workers worker_index "
    "reporter report on_interrupt **fields",
    "load_run": "folder",
    "load_encoder": "run * head preprocessing dtype name",
    "embed": "run data * out features split projector_folder max_bad_images overwrite reporter",
    "knn": "run * data split features k temperature baselines max_bad_images",
    "probe": "run * data quick baselines out report reporter **fields",
    "finetune": "run * data out report reporter **fields",
    "export": "run out * format with_head with_preprocessing data data_licence overwrite",
}


def told(function):
    """The names of its arguments, a star before those that need theirs."""
    words, parameters = [], inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append("**" * (parameter.kind is parameter.VAR_KEYWORD) + parameter.name)
    return " ".join(words)


def test_the_names_and_their_arguments():
    names = set(moco_tf.__all__) - {"__version__"}
    assert names == {*SIGNATURES, "Run", "Config", "RECIPES"} and len(names) <= 12
    assert {name: told(getattr(moco_tf, name)) for name in SIGNATURES} == SIGNATURES
    assert set(moco_tf.__all__) <= set(dir(moco_tf))
    for name in SIGNATURES:
        assert "Raises:" in inspect.getdoc(getattr(moco_tf, name))
        assert inspect.signature(getattr(moco_tf, name)).return_annotation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def trained(shallow, compiled_once, data, folder):
    """A run by Python, after which nothing of the process may have changed; what was called."""
    calls = []
    keras.utils.set_random_seed(5)
    before = settings_of_the_process()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        run = moco_tf.pretrain(
            "shapes",
            data=Path(data),
            run_dir=folder / "run",
            callbacks=[lambda step, row: calls.append((step, row))],
            **TINY | {"max_steps": 3},
        )
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert settings_of_the_process() == before
    draws = random.random(), np.random.rand(), tf.random.uniform([]).numpy()
    keras.utils.set_random_seed(5)
    assert draws == (random.random(), np.random.rand(), tf.random.uniform([]).numpy())
    return run, calls


def settings_of_the_process():
    """What a run may not leave behind."""
    return {
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "threads": tf.config.threading.get_inter_op_parallelism_threads(),
        "devices": tf.config.list_logical_devices(),
        "eager": tf.config.functions_run_eagerly(),
        "policy": keras.config.dtype_policy().name,
        "log": tf.get_logger().level,
        "filters": [one for one in warnings.filters if "PIL" in str(one[3])],
        "strategy": tf.distribute.has_strategy(),
    }


@pytest.mark.slow
def test_a_run_is_that_of_the_command(trained, data, folder):
    run, _ = trained
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    flags += ["--data", data, "--run-dir", str(folder / "command"), "--max-steps", "3", "--json"]
    assert main(["pretrain", "shapes", *flags]) == 0
    theirs = read_json(folder / "command" / "summary.json")
    assert run.summary["state_sha256"] == theirs["state_sha256"]
    assert run.summary.keys() == theirs.keys() and run.summary["step"] == 3
    assert run.config.model_copy(update={"run_dir": None}) == moco_tf.load_run(
        folder / "command"
    ).config.model_copy(update={"run_dir": None})


def test_a_run_tells_what_is_in_its_folder(trained, folder, data):
    run, calls = trained
    assert (run.folder, str(run)) == (folder / "run", str(folder / "run"))
    assert run.config == moco_tf.Config(**read_json(run.folder / "config.json"))
    assert run.metrics[-1]["step"] == 3
    rows = metrics(run.folder)
    assert calls == [(row.pop("step"), row) for row in rows] and len(calls) == 3
    frame = run.metrics_frame()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == len(run.metrics)
    again = moco_tf.load_run(str(folder / "run"))
    assert again.summary == run.summary == read_json(run.folder / "summary.json")
    assert isinstance(run.encoder, keras.Model) and run.encoder is run.encoder
    assert again.encoder.output.shape == (None, 8 * TINY["width"])


@pytest.fixture
def whole(quick, data, tmp_path):
    """The digest of a run of nine steps that nothing stops."""
    return tiny(data, tmp_path / "whole").summary["state_sha256"]


def tiny(data, run_dir, **others):
    return moco_tf.pretrain("shapes", data=data, run_dir=run_dir, **TINY | others)


def at_step(number, function):
    """A callback that calls `function` once, after that step."""
    return lambda step, row: function() if step == number else None


def interrupt_from_a_thread():
    """As a notebook's server does, while the main thread trains on."""
    thread = threading.Timer(0.0, signal.raise_signal, [signal.SIGINT])
    thread.start()
    thread.join()
    time.sleep(0)  # Python handles signals between two of its own instructions


def test_an_interrupt_saves_and_returns_and_the_same_call_goes_on(whole, data, tmp_path, capsys):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run = tiny(data, tmp_path / "stopped", callbacks=[at_step(4, interrupt_from_a_thread)])
    assert "interrupted at step 4; saved." in capsys.readouterr().out
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (run.summary["step"], run.summary["stopped_early"]) == (4, True)
    again = tiny(data, run.folder)
    assert again.summary["state_sha256"] == whole and "stopped_early" not in again.summary
    assert moco_tf.load_run(run).summary == again.summary


def test_an_interrupt_is_raised_where_the_command_line_wants_it(whole, data, tmp_path):
    stop = at_step(2, interrupt_from_a_thread)
    with pytest.raises(Interrupted, match="interrupted at step 2; saved") as stopped:
        tiny(data, tmp_path / "raised", callbacks=[stop], on_interrupt="raise")
    assert stopped.value.exit_code == 130


def test_sigterm_saves_and_then_does_what_it_did_before(whole, data, tmp_path):
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        stop = at_step(3, lambda: signal.raise_signal(signal.SIGTERM))
        run = tiny(data, tmp_path / "terminated", callbacks=[stop])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM] and run.summary["step"] == 3


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OwnError, KeyboardInterrupt])
def test_an_error_of_a_callback_ends_the_run_saved(whole, data, tmp_path, error):
    def fails():
        raise error("enough")

    run_dir = tmp_path / error.__name__
    with pytest.raises(error, match="enough"):
        tiny(data, run_dir, callbacks=[at_step(6, fails)], knn_every=1)  # of which one is due then
    run = moco_tf.load_run(run_dir)
    assert run.summary["step"] == 6
    assert tiny(data, run_dir, knn_every=1).summary["state_sha256"] == whole
    assert [row["step"] for row in run.metrics if "knn_top1" in row] == [0, 3, 6, 9]


def test_a_thread_that_is_not_the_main_one_trains_too(whole, data, tmp_path):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(tiny(data, tmp_path / "thread")))
    thread.start()
    thread.join()
    assert runs[0].summary["state_sha256"] == whole


def test_a_run_without_a_name_goes_on_with_its_own_settings(whole, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny(data, Path("relative"), max_steps=5)
    assert moco_tf.pretrain(run_dir="relative").summary["state_sha256"] == whole
    config = moco_tf.load_run("relative").config
    again = moco_tf.pretrain(config, run_dir="again", max_steps=None)
    assert again.folder == Path("again") and again.summary["state_sha256"] == whole


def test_what_the_command_line_cannot_give_is_passed_on_only_if_given(data, tmp_path, monkeypatch):
    given = {}

    def pretrain(config, **settings):
        given.update(settings, config=config)
        return {"step": 0}

    monkeypatch.setattr(moco_tf.pretraining, "pretrain", pretrain)
    tiny(data, tmp_path / "passed")
    assert not {"source", "backbone", "augment"} & given.keys()
    images = np.zeros((4, 8, 8, 3), np.uint8)
    run = moco_tf.pretrain(
        "shapes", data=images, backbone="a model", augment=print, run_dir=tmp_path / "passed"
    )
    assert run.summary == {"step": 0}
    assert given["source"] is images
    assert (given["backbone"], given["augment"]) == ("a model", print)


def views(image, seed):
    return tf.image.stateless_random_crop(image, [8, 8, 3], seed)


def test_array_backbone_and_function_together_go_on_by_the_same_call(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (32, 12, 12, 3)).astype(np.uint8)
    layers = [keras.layers.Conv2D(4, 3, strides=2), keras.layers.GlobalAveragePooling2D()]
    objects = {"data": pictures, "backbone": keras.Sequential([keras.Input((8, 8, 3)), *layers])}
    settings = TINY | {"image_size": 8, "knn_every": 0, "stem": "small"}

    def begin(folder, **given):
        given = objects | {"augment": views, "run_dir": tmp_path / folder} | settings | given
        return moco_tf.pretrain("small", **given)

    whole = begin("whole", max_steps=3).summary
    begin("run", max_steps=1)
    assert begin("run", max_steps=3).summary["state_sha256"] == whole["state_sha256"]
    with pytest.raises(InputError, match=r"data \(object:numpy.ndarray there, object:list now\)"):
        begin("run", data=list(pictures))
    with pytest.raises(InputError, match=r"encoder \(model there, resnet18 now\)"):
        begin("run", backbone=None)


def test_images_in_python_choose_the_recipe_that_suits_them(tmp_path, monkeypatch, capsys):
    chosen = []

    def pretrain(config, **settings):
        chosen.append((config.recipe, config.image_size, config.run_dir))
        return {}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(moco_tf.pretraining, "pretrain", pretrain)
    for images in (np.zeros((9, 28, 30, 3), np.uint8), ["a picture"] * 9, range(10_001)):
        moco_tf.pretrain(data=images)
    assert chosen == [
        ("cifar10-demo", 28, "runs/ndarray-cifar10-demo"),
        ("small", 224, "runs/list-small"),
        ("moco-v2", 224, "runs/range-moco-v2"),
    ]
    assert "ndarray has images of 28 pixels" in capsys.readouterr().out
    pair, folders = (np.zeros((9, 28, 30, 3), np.uint8), np.zeros(9, np.int64)), []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / name / "0.png")
        folders.append(str(tmp_path / name))
    for images in (pair, {"train": pair, "test": pair}, folders):
        moco_tf.pretrain(data=images)
    assert [(recipe, side) for recipe, side, _ in chosen[3:]] == [
        ("cifar10-demo", 28),
        ("cifar10-demo", 28),
        ("cifar10-demo", 20),
    ]


@pytest.fixture(scope="module")
def judged(shallow, folder):
    """A run on pictures with classes."""
    return make_run(folder / "judged", save_npz(folder / "judged.npz"))


BAD = {  # what is called, and what its one line says
    "moco_tf.pretrain('moco-v4')": "unknown recipe 'moco-v4'. Did you mean moco-v2?",
    "moco_tf.pretrain(3)": "unknown recipe 3.",
    "moco_tf.pretrain('shapes', bach_size=3)": "field 'bach_size'. Did you mean batch_size?",
    "moco_tf.pretrain('shapes', batch_size=100)": "Use batch_size 96, or group_size 10.",
    "moco_tf.pretrain('shapes', data='absent')": "data='absent'",
    "moco_tf.pretrain('shapes', data=Path('absent'))": "data='absent'",
    "moco_tf.pretrain('shapes', callbacks=print)": "callbacks must be a list of functions",
    "moco_tf.pretrain('shapes', callbacks=[3])": "received callbacks=[3]",
    "moco_tf.pretrain('shapes', worker_index=1)": "workers",
    "moco_tf.pretrain('shapes', backbone=1, encoder='resnet50')": "encoder=resnet50 does not go",
    "moco_tf.pretrain('shapes', backbone=1, pretrained=True)": "encoder=model",
    "moco_tf.pretrain('shapes', augment='v2')": "a function of (image, seed); received a str",
    "moco_tf.pretrain('shapes', augment=print, augmentation='v1')": "augmentation='v1' has no",
    "moco_tf.pretrain('shapes', augment=print, crop_min_area=0.1)": "crop_min_area=0.1 has no",
    "moco_tf.pretrain('shapes', run_dir=5)": "must be text or a path; received 5, a int",
    "moco_tf.load_run(5)": "must be text or a path; received 5, a int",
    "moco_tf.knn(None)": "must be text or a path; received None, a NoneType",
    "moco_tf.export(run, 5, format='keras')": "must be text or a path; received 5, a int",
    "moco_tf.load_run('absent')": "absent is not a run folder",
    "moco_tf.load_run('file.txt')": "file.txt is a file",
    "moco_tf.knn('absent')": "absent is not a run folder",
    "moco_tf.probe(run, epoch=3)": "unknown field 'epoch'. Did you mean epochs?",
    "moco_tf.probe(run, quick=True, epochs=3)": "epochs",
    "moco_tf.probe(run, baselines=False)": "baselines=False is for quick; the official",
    "moco_tf.finetune(run, label_fraction=2)": "received label_fraction=2",
    "moco_tf.embed(run, 'absent')": "data='absent'",
    "moco_tf.embed(run, out='features.txt')": "out=features.txt",
    "moco_tf.export(run, 'x', format='caffe')": "received format='caffe'",
    "moco_tf.export(run, 'x', format='keras')": "must end in .keras",
}


@pytest.mark.parametrize("call", BAD)
def test_bad_input_is_one_line_before_tensorflow(judged, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("moco_tf.api.starting.start_tensorflow", None)
    Path("file.txt").write_text("x")
    with pytest.raises(InputError) as refused:
        eval(call, {"moco_tf": moco_tf, "Path": Path, "run": moco_tf.Run(judged.folder)})
    assert BAD[call] in str(refused.value) and str(refused.value).isprintable()
    assert " --" not in str(refused.value)  # whoever writes Python gives keywords
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_another_backend_of_keras_is_refused(judged, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(InputError, match="must be tensorflow; received KERAS_BACKEND=jax"):
        moco_tf.export(judged.folder, "x.keras", format="keras")


def test_more_devices_than_tensorflow_started_with_are_one_line(data, tmp_path):
    with pytest.raises(InputError, match="devices=16 virtual CPU devices must be made before"):
        tiny(data, tmp_path / "run", devices=16, group_size=1 * 2, batch_size=32)
    assert not (tmp_path / "run").exists()


def said(capsys, *words):
    """The object that a command prints."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def same(one, other, *but):
    """Whether two results are equal, but for times and where they went."""
    apart = {"seconds", "images_per_second", "seconds_total", *but}
    return {k: v for k, v in one.items() if k not in apart} == {
        k: v for k, v in other.items() if k not in apart
    }


@pytest.mark.slow
def test_knn_is_that_of_the_command(judged, capsys):
    run = moco_tf.Run(judged.folder)
    found = moco_tf.knn(run, k=3, features="pooled", baselines=False)
    flags = ["--k", 3, "--features", "pooled", "--no-baselines"]
    assert found == said(capsys, "knn", judged.folder, *flags)
    assert found["knn_top1_untrained"] is None
    assert moco_tf.knn(judged.folder, data=Path(judged.data), k=3, baselines=False) == said(
        capsys, "knn", judged.folder, "--data", judged.data, "--k", 3, "--no-baselines"
    )


@pytest.mark.slow
def test_probe_is_that_of_the_command(judged, folder, capsys):
    found = moco_tf.probe(judged.folder, quick=True, baselines=False, out=folder / "quick")
    flags = ["--quick", "--no-baselines", "--out", folder / "quick2"]
    theirs = said(capsys, "probe", judged.folder, *flags)
    assert same(found, theirs, "features_cached") and 0 <= found["top1"] <= 100


def in_python(path):
    """The images of an .npz file, as Python gives them."""
    arrays = np.load(path)
    return {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")}


@pytest.mark.slow
def test_the_quick_probe_of_images_in_python_is_that_of_their_file(judged, folder):
    once = {"quick": True, "baselines": False}
    wanted = moco_tf.probe(judged.folder, out=folder / "quick3", **once)
    images = in_python(judged.data)
    found = moco_tf.probe(judged.folder, data=images, out=folder / "quick4", **once)
    assert same(found, wanted, "features_cached", "protocol", "data")
    for judge in (moco_tf.probe, moco_tf.finetune):
        with pytest.raises(InputError, match=r"in Python \{'train': ..., 'test': ...\}"):
            judge(judged.folder, data=images["train"], out=folder / "none")
    assert not (folder / "none").exists()


@pytest.mark.slow
def test_linear_probe_and_finetuning_are_those_of_the_commands(judged, folder, capsys):
    run, flags = moco_tf.Run(judged.folder), ["--epochs", 1, "--batch-size", 4, "--out"]
    found = moco_tf.probe(run, epochs=1, batch_size=4, lr=(30, 3), out=folder / "probe")
    theirs = said(capsys, "probe", run, "--lr", 30, 3, *flags, folder / "probe2")
    assert found["state_sha256"] == theirs["state_sha256"] and found["top1"] == theirs["top1"]
    found = moco_tf.finetune(run, epochs=1, batch_size=4, out=folder / "tuned")
    theirs = said(capsys, "finetune", run, *flags, folder / "tuned2")
    assert found["state_sha256"] == theirs["state_sha256"] and found["top1"] == theirs["top1"]


@pytest.mark.slow
def test_linear_probe_and_finetuning_take_images_in_python(judged, folder):
    images, short = in_python(judged.data), {"epochs": 1, "batch_size": 4}
    for name, judge in (("probe", moco_tf.probe), ("finetune", moco_tf.finetune)):
        wanted = judge(judged.folder, out=folder / f"{name}-file", **short)
        out = folder / f"{name}-python"
        found = judge(judged.folder, data=images, out=out, **short)
        assert found["state_sha256"] == wanted["state_sha256"] and found["top1"] == wanted["top1"]
        assert judge(judged.folder, data=images, out=out, **short) == found  # is done
        with pytest.raises(InputError, match="other"):
            others = images | {"train": (images["train"][0][::-1], images["train"][1])}
            judge(judged.folder, data=others, out=out, **short)


@pytest.mark.slow
def test_embed_gives_what_the_command_writes(judged, folder, capsys):
    told = said(capsys, "embed", judged.folder, "--out", folder / "theirs.npy")
    theirs = np.load(folder / "theirs.npy")
    run = moco_tf.load_run(judged.folder)
    found = moco_tf.embed(run)
    np.testing.assert_array_equal(found, theirs)
    assert found.dtype == np.float32
    assert same(moco_tf.embed(run, out=folder / "ours.npy"), told, "out")
    np.testing.assert_array_equal(np.load(folder / "ours.npy"), theirs)
    with np.load(judged.data) as arrays:
        train, test = arrays["x_train"], arrays["x_test"]
    atol = 1e-6 * np.abs(theirs).max()  # in other batches
    np.testing.assert_allclose(
        moco_tf.embed(run, np.concatenate([train, test])), theirs, rtol=0, atol=atol
    )
    with pytest.raises(InputError, match="item 0: it is not an image but int"):
        moco_tf.embed(run, [1, 2])
    part = moco_tf.embed(run, judged.data, split="test", features="projection")
    assert part.shape == (len(test), 6)


def test_export_is_that_of_the_command(judged, folder, capsys):
    found = moco_tf.export(moco_tf.Run(judged.folder), folder / "a.keras", format="keras")
    flags = ["--format", "keras", "--out", folder / "b.keras"]
    assert same(found, said(capsys, "export", judged.folder, *flags), "out", "card", "bytes")
    assert found["equal"] and (folder / "a.keras").exists()
