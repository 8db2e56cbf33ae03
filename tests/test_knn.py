"""kNN: equal to the recorded monitor and to a naive twin; splits; a whole run evaluated."""

import math
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from moco_tf.commands.flags import beside
from moco_tf.config import Config
from moco_tf.data.sources import from_arrays
from moco_tf.errors import InputError
from moco_tf.evaluate import baselines, knn_run
from moco_tf.evaluate.knn import knn_predict, knn_top1, knn_top1_pixels
from moco_tf.evaluate.split import monitor_split
from moco_tf.files.digests import read_json
from moco_tf.models import build_encoder
from moco_tf.runs import checkpoint
from moco_tf.runs import folder as run_folder

pytestmark = pytest.mark.usefixtures("shallow", "encoders_once")
# As `moco_tf.knn` calls it.
evaluate_run = partial(knn_run.evaluate_run, features="projection", k=200, temperature=0.1)


def unit_rows(generator, rows, size):
    values = generator.standard_normal((rows, size))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def naive_scores(bank, labels, queries, classes, k, temperature):
    """The definition, one pair at a time."""
    scores = np.zeros((len(queries), classes))
    for row, query in enumerate(queries):
        similarity = [math.fsum(a * b for a, b in zip(query, key, strict=True)) for key in bank]
        for index in sorted(range(len(bank)), key=lambda i: -similarity[i])[:k]:
            scores[row, labels[index]] += math.exp(similarity[index] / temperature)
    return scores


@pytest.mark.golden
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_recorded_monitor(golden, dtype, tolerance):
    z = golden("knn")
    found = re.compile(r"(k(\d+)_t([\d.]+))/scores")
    cases = [match.groups() for name in z.files if (match := found.fullmatch(name))]
    assert cases
    for prefix, k, t in cases:
        recorded, wanted = z[f"{prefix}/scores"], z[f"{prefix}/pred_labels"]
        predictions, scores = knn_predict(
            z["bank"].astype(dtype),
            z["bank_labels"],
            z["query"].astype(dtype),
            classes=recorded.shape[1],
            k=int(k),
            temperature=float(t),
            batch=33,
        )
        np.testing.assert_allclose(scores, recorded, rtol=tolerance, atol=0)
        np.testing.assert_array_equal(predictions[:, 0], wanted[:, 0])
        voted = np.take_along_axis(recorded, wanted, axis=1) > 0  # the rest are ties
        np.testing.assert_array_equal(predictions[voted], wanted[voted])
        top1 = 100 * np.mean(predictions[:, 0] == z["query_labels"])
        assert top1 == pytest.approx(float(z[f"{prefix}/top1_acc"]), abs=1e-9)


@pytest.mark.parametrize(("k", "batch"), [(1, 512), (7, 3), (40, 4), (500, 5)])
def test_equals_the_naive_twin(k, batch):
    generator = np.random.default_rng(k)
    bank, queries = unit_rows(generator, 40, 6), unit_rows(generator, 11, 6)
    labels = generator.integers(0, 4, 40)
    settings = {"classes": 5, "k": k, "temperature": 0.2}
    predictions, scores = knn_predict(bank, labels, queries, batch=batch, **settings)
    np.testing.assert_allclose(scores, naive_scores(bank, labels, queries, 5, k, 0.2), rtol=1e-12)
    np.testing.assert_array_equal(np.sort(predictions, axis=1), np.tile(np.arange(5), (11, 1)))
    assert (np.diff(np.take_along_axis(scores, predictions, axis=1), axis=1) <= 0).all()
    share = knn_top1(bank, labels, queries, predictions[:, 0] + (np.arange(11) < 4), **settings)
    assert share == pytest.approx(100 * 7 / 11)


def test_closed_form_and_order_of_ties():
    bank = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    predictions, scores = knn_predict(
        bank, np.array([2, 0, 1]), np.array([[1.0, 0.0]]), classes=3, k=3, temperature=0.5
    )
    np.testing.assert_allclose(scores, [[1.0, math.exp(2), math.exp(2)]], rtol=1e-15)
    assert predictions.tolist() == [[1, 2, 0]]
    first, _ = knn_predict(
        bank, np.array([2, 0, 1]), np.array([[1.0, 0.0]]), classes=3, k=1, temperature=0.5
    )
    assert first[0, 0] == 2  # of equally similar rows the first votes


def test_tiny_temperature_still_predicts():
    generator = np.random.default_rng(0)
    bank, labels = unit_rows(generator, 20, 4), np.arange(20) % 3
    predictions, scores = knn_predict(bank, labels, bank, classes=3, k=5, temperature=1e-4)
    np.testing.assert_array_equal(predictions[:, 0], labels)
    assert not np.isnan(scores).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"temperature": 0.0}, r"temperature=0\.0"),
        ({"classes": 2}, r"0 \.\.\. 1; received 0 \.\.\. 2"),
        ({"queries": np.ones((2, 3))}, r"\(2, 3\)"),
        ({"bank": np.zeros((0, 2)), "bank_labels": np.zeros(0, int)}, "above 0"),
        ({"queries": np.array([[np.nan, 0.0]])}, "diverged"),
    ],
)
def test_wrong_values_are_named(changes, message):
    values = {
        "bank": np.eye(3)[:, :2],
        "bank_labels": np.arange(3),
        "queries": np.eye(2),
        "classes": 3,
        "k": 2,
        "temperature": 0.1,
    } | changes
    with pytest.raises(InputError, match=message):
        knn_predict(**values)


def gray_levels(count, seed):
    """8 x 8 images of two classes: bright at the top, or at the bottom."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.integers(0, 60, (count, 8, 8, 3))
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4] += 150
    return images.astype(np.uint8), labels


def test_pixels_tell_bright_halves_apart():
    train, test = from_arrays("a", *gray_levels(30, 0)), from_arrays("b", *gray_levels(10, 1))
    split = monitor_split(train, test)
    assert knn_top1_pixels(split, image_size=8, k=5, temperature=0.1) == 100.0


@pytest.fixture
def run(tmp_path):
    """A run folder with an untrained tiny encoder, and its data: 30 + 10 images."""
    images, labels = gray_levels(30, 0)
    tests, test_labels = gray_levels(10, 1)
    data = tmp_path / "data.npz"
    np.savez(data, x_train=images, y_train=labels, x_test=tests, y_test=test_labels)
    config = Config(
        data=str(data), image_size=8, encoder="resnet18", width=4, stem="small", dim=6,
        group_size=2, batch_size=4, seed=5,
    )  # fmt: skip
    folder = tmp_path / "run"
    run_folder.claim(folder, config)
    encoder = build_encoder(
        "resnet18", image_size=8, stem="small", width=4, head="linear", dim=6, group_size=2,
        group_layout="contiguous", running_statistics="first_group", dtype="float32", seed=99,
    )  # fmt: skip
    state = {
        "query_encoder/" + "/".join(v.path.split("/")[-2:]): v.numpy()
        for v in encoder.model.variables
    }
    assert len(state) == len(encoder.model.variables)  # no two of one name
    checkpoint.save(run_folder.checkpoint_folder(folder), state, step=12, extra={})
    return SimpleNamespace(folder=folder, encoder=encoder, state=state, labels=labels, data=data)


def test_evaluate_run(run):
    result = evaluate_run(str(run.folder), k=200, compare=False)
    assert {name: result[name] for name in result if name not in ("knn_top1", "protocol")} == {
        "knn_top1_untrained": None, "knn_top1_pixels": None, "untrained_seed": None, "k": 30,
        "temperature": 0.1, "features": "projection", "bank_images": 30,
        "query_images": 10, "classes": 2, "step": 12,
        "split": "test", "unlabelled": 0, "left_out": {},
    }  # fmt: skip
    assert "10 test images" in result["protocol"] and "30 nearest" in result["protocol"]
    # The same from the saved encoder itself, by hand: ImageNet normalisation, unit rows.
    bank, queries = (
        np.asarray(run.encoder.model(
            ((images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32),
            training=False,
        ))
        for images in (gray_levels(30, 0)[0], gray_levels(10, 1)[0])
    )  # fmt: skip
    bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries))
    scores = naive_scores(bank, run.labels, queries, 2, 30, 0.1)
    assert result["knn_top1"] == 100 * np.mean(np.argmax(scores, axis=1) == np.arange(10) % 2)


@pytest.mark.slow
def test_the_baselines_are_the_runs_first_encoder_and_the_pixels_computed_once(run, monkeypatch):
    said = []
    result = evaluate_run(str(run.folder), k=5, warn=said.append)
    first = build_encoder(
        "resnet18", image_size=8, stem="small", width=4, head="linear", dim=6, group_size=2,
        group_layout="contiguous", running_statistics="first_group", dtype="float32", seed=5,
    ).model  # fmt: skip
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    images = [gray_levels(30, 0)[0], gray_levels(10, 1)[0]]
    drawn = [np.asarray(first(((x / 255 - mean) / std).astype(np.float32))) for x in images]
    pixels = [x.reshape(len(x), -1) - images[0].reshape(30, -1).mean(0) for x in images]
    for name, pair in (("untrained", drawn), ("pixels", pixels)):
        bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in pair)
        scores = naive_scores(bank, run.labels, queries, 2, 5, 0.1)
        right = 100 * np.mean(np.argmax(scores, axis=1) == np.arange(10) % 2)
        assert result[f"knn_top1_{name}"] == right
    assert result["untrained_seed"] == 5 and "next its baselines" in said[0]

    kept = run.folder / "baselines.json"
    assert len(read_json(kept)) == 1
    with monkeypatch.context() as patched:
        patched.setattr(knn_run, "untrained_encoder", None)
        assert evaluate_run(str(run.folder), k=5, warn=pytest.fail) == result
        with pytest.raises(TypeError):
            evaluate_run(str(run.folder), k=6)  # another number: not the one that was kept

    kept.write_text(kept.read_text().replace("knn", "").replace("0", "1"))
    monkeypatch.setattr(baselines, "write_json", read_only)
    said.clear()
    assert evaluate_run(str(run.folder), k=5, warn=said.append) == result
    assert "baselines.json is damaged" in said[0]


def test_the_line_names_the_baselines_if_there_are_any():
    values = {"a_untrained": 30.5, "a_pixels": 20.25, "untrained_seed": 5}
    assert beside(values, "a") == "  (untrained, seed 5: 30.50%, raw pixels: 20.25%)"
    assert not beside(dict.fromkeys(values), "a")


def read_only(path, value):
    raise InputError(f"cannot write {path}: Read-only file system.")


def test_evaluate_run_without_a_test_split_or_labels(run, tmp_path):
    images, labels = gray_levels(30, 0)
    np.savez(tmp_path / "train_only.npz", x_train=images, y_train=labels)
    result = evaluate_run(
        str(run.folder), data=str(tmp_path / "train_only.npz"), features="pooled", k=3,
        compare=False,
    )  # fmt: skip
    assert (result["bank_images"], result["query_images"], result["k"]) == (28, 2, 3)
    assert "held-out training images" in result["protocol"]
    np.savez(tmp_path / "unlabelled.npz", x_train=images)
    with pytest.raises(InputError, match=r"labels; data=.*unlabelled\.npz"):
        evaluate_run(str(run.folder), data=str(tmp_path / "unlabelled.npz"))
    with pytest.raises(InputError, match="features='pool'"):
        evaluate_run(str(run.folder), features="pool")


def test_evaluate_run_refuses_what_is_no_run(run, tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        evaluate_run(str(tmp_path / "nothing"))
    folder = run_folder.checkpoint_folder(run.folder)
    name = "query_encoder/fc/kernel"
    checkpoint.save(folder, run.state | {name: np.zeros((3, 3), np.float32)}, step=13, extra={})
    with pytest.raises(InputError, match=rf"{name} is float32 \(3, 3\), wanted shape \(32, 6\)"):
        evaluate_run(str(run.folder))
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no checkpoint yet"):
        evaluate_run(str(run.folder))
