"""The sections with pictures: views, neighbours, map and confusion, against naive twins."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.labelled_run import CLASSES, make_run, pictures, save_npz
from support.runs import config
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

import moco_tf
from moco_tf.commands.cli import main
from moco_tf.config import Config
from moco_tf.data.pipeline import two_views
from moco_tf.data.sources import from_arrays
from moco_tf.data.view_making import HostViews
from moco_tf.report.after import report_results
from moco_tf.report.alike import confusion_of, neighbours_of
from moco_tf.report.layout import clusters_of, laid_out, principal
from moco_tf.report.sample import Sample, choose, count_for
from moco_tf.report.seen import OTHER_IMAGES, look
from moco_tf.report.views import EPOCHS, views_of
from moco_tf.runs.check import check_run
from moco_tf.runs.snapshot import peek

CONFIG = Config(data="x", image_size=8, stem="small", batch_size=4, group_size=2, seed=3, knn_k=5)


def images(count, labelled=True, seed=0):
    pixels, labels = pictures(count, seed)
    return from_arrays("x", pixels, labels.astype(str) if labelled else None)


def sample_of(labels, names=(), bank=4):
    """Pictures of nothing, with labels."""
    count = len(labels)
    return Sample(
        np.zeros((count, 8, 8, 3), np.uint8),
        [f"picture {place}" for place in range(count)],
        np.array(labels),
        names,
        bank,
        1.0,
    )


def test_views_are_those_that_the_run_draws():
    train = images(12, labelled=False)
    drawn = views_of(CONFIG, train)
    assert len(drawn) == 8 and {len(one.pairs) for one in drawn} == {EPOCHS}
    making, per_epoch = HostViews(CONFIG.views, 8), 3
    batches = two_views(train, making, batch_size=4, seed=3, start_step=0, steps=per_epoch * EPOCHS)
    of_run = [[np.asarray(view) for view in batch] for batch in batches]
    first = np.concatenate([batch[0] for batch in of_run]).reshape(EPOCHS, 12, -1)
    second = np.concatenate([batch[1] for batch in of_run]).reshape(EPOCHS, 12, -1)
    for one in drawn:
        for epoch, (view1, view2) in enumerate(one.pairs):
            same = (first[epoch] == view1.ravel()).all(axis=1)
            same &= (second[epoch] == view2.ravel()).all(axis=1)
            assert same.sum() == 1, (one.name, epoch)


def test_views_of_a_function_are_its_own():
    train = images(3, labelled=False)
    drawn = views_of(CONFIG, train, lambda image, seed: 255 - image)
    for place, one in enumerate(drawn):
        for view in one.pairs[0]:
            np.testing.assert_array_equal(view, 255 - train.pixels[place])


def test_neighbours_are_the_nearest_of_the_bank():
    random = np.random.default_rng(0)
    rows = random.normal(size=(30, 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sample = sample_of(random.integers(0, 3, 30), bank=20)
    for query in neighbours_of(sample, {"trained": rows}):
        similarity = [float(rows[query.place] @ rows[other]) for other in range(20)]
        best = sorted(range(20), key=lambda other: -similarity[other])[:8]
        found = query.nearest["trained"]
        assert [near.place for near in found] == best
        assert [near.similarity for near in found] == pytest.approx(sorted(similarity)[:-9:-1])
        own = sample.labels[query.place]
        assert [near.right for near in found] == [sample.labels[n] == own for n in best]


def test_confusion_counts_what_the_queries_are_taken_for():
    axes = np.eye(3, dtype=np.float32)
    labels = [0, 1, 2, 0, 0, 0, 1, 2]
    places = [0, 1, 2, 0, 0, 1, 1, 1]  # the second query of class 0 lies at 1, that of class 2 too
    sample = sample_of(labels, ("a", "b", "c"))
    nearest = CONFIG.model_copy(update={"knn_k": 1})
    found = confusion_of(nearest, sample, axes[places])
    assert found.counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert found.top1 == 50.0 and found.k == 1
    assert [(p.label, p.taken_for, p.queries, p.share) for p in found.pairs] == [
        (0, 1, 1, 50.0), (2, 1, 1, 100.0)
    ]  # fmt: skip
    assert [p.examples for p in found.pairs] == [[5], [7]]


def test_of_ten_thousand_classes_the_matrix_has_those_that_are_mixed_up():
    random = np.random.default_rng(0)
    rows = random.normal(size=(1200, 4)).astype(np.float32)
    labels = random.integers(0, 10_000, 1200)
    names = tuple(f"class {n}" for n in range(10_000))
    found = confusion_of(CONFIG, sample_of(labels, names, bank=900), rows)
    assert found.counts.shape == (20, 20) and found.classes == 10_000
    assert {found.pairs[0].label, found.pairs[0].taken_for} <= set(found.labels)


def test_principal_components_are_those_of_an_svd():
    rows = np.random.default_rng(1).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    _, _, axes = np.linalg.svd(rows - rows.mean(axis=0))
    expected = (rows - rows.mean(axis=0)) @ axes[:2].T
    np.testing.assert_allclose(np.abs(principal(rows)), np.abs(expected), atol=1e-9)
    places = laid_out(rows, "pca", 0)
    np.testing.assert_allclose([places.min(axis=0), places.max(axis=0)], [[0, 0], [1, 1]])


def test_equal_features_lie_in_one_place():
    assert (laid_out(np.ones((5, 3)), "pca", 0) == 0).all()
    assert len(clusters_of(np.ones((5, 3)) / 3**0.5)) == 1


def test_tsne_keeps_what_is_near_together():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    rows = np.repeat(np.eye(2), 20, axis=0) + np.random.default_rng(0).normal(0, 0.01, (40, 2))
    places = laid_out(rows, "tsne", 0)
    middles = places[:20].mean(axis=0), places[20:].mean(axis=0)
    spread = max(places[:20].std(), places[20:].std())
    assert np.linalg.norm(middles[0] - middles[1]) > 2 * spread


def test_clusters_are_found_with_their_typical_pictures():
    axes = np.eye(8)
    counts = [10, 9, 8, 7, 6, 5, 4, 3]
    rows = np.repeat(axes, counts, axis=0) + np.random.default_rng(0).normal(0, 0.02, (52, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = clusters_of(rows)
    assert [len(one.members) for one in found] == counts
    ends = np.cumsum(counts)
    for one, end, count in zip(found, ends, counts, strict=True):
        assert one.members.tolist() == list(range(end - count, end))
        middle = rows[one.members].mean(axis=0)
        assert one.typical[0] == one.members[np.argmax(rows[one.members] @ middle)]


@pytest.mark.parametrize(
    ("side", "speed", "count"),
    [(32, None, 1000), (32, 100.0, 800), (32, 1e5, 5000), (224, 1.0, 256), (8192, 1e5, 5)],
)
def test_as_many_pictures_as_take_some_seconds(side, speed, count):
    assert count_for(CONFIG.model_copy(update={"image_size": side}), speed) == count


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("has_test", [True, False])
def test_no_picture_is_query_and_in_the_bank(labelled, has_test):
    train = images(40, labelled)
    test = images(20, labelled, seed=1) if has_test else None
    sample = choose(CONFIG, train, test, 16)
    assert len(sample.crops) == len(sample.names) <= 16 and 0 < sample.bank < len(sample.names)
    assert len({crop.tobytes() for crop in sample.crops}) == len(sample.names)
    assert (sample.labels is not None) is labelled


@pytest.fixture(scope="module")
def run(tmp_path_factory, shallow):
    folder = tmp_path_factory.mktemp("seen")
    return make_run(folder / "run", save_npz(folder / "data.npz"))


def test_a_report_shows_the_pictures_of_a_run(run, capsys):
    assert main(["report", run.folder, "--pictures", "24", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["absent"] == {} and len(figures["views"]["pictures"]) == 8
    first = figures["neighbours"]["queries"][0]
    assert len(first["trained"]) == len(first["untrained"]) == len(first["pixels"]) == 8
    assert len(figures["map"]["places"]) == len(figures["map"]["classes"]) == 18 + 6
    assert np.sum(figures["confusion"]["counts"]) == 6
    assert len(figures["confusion"]["classes"]) == CLASSES
    page = Path(figures["out"]).read_text(encoding="utf-8")
    assert page.count("<circle ") == 24 and page.count('class="query"') == 6


def test_without_labels_there_is_no_confusion(run):
    seen = look(
        Path(run.folder), peek(run.folder), images(20, False), None,
        pictures=12, images_per_second=None, warn=print,
    )  # fmt: skip
    assert seen.absent.keys() == {"confusion"}
    assert seen.shown["map"]["groups"][0][0] == "cluster 1"
    assert seen.figures["neighbours"]["same_class"]["trained"] is None


@pytest.mark.slow
def test_pictures_that_have_changed_since_are_told_of(run, monkeypatch):
    saved = {"images": "others"}
    monkeypatch.setattr("moco_tf.report.seen.newest_saved", lambda _: (7, saved))
    for identity, note in (("others", ""), ("these", OTHER_IMAGES)):
        train = replace(images(20, False), identity=identity)
        seen = look(
            Path(run.folder), peek(run.folder), train, None,
            pictures=12, images_per_second=None, warn=print,
        )  # fmt: skip
        assert seen.shown["neighbours"]["note"] == note


def test_what_cannot_be_looked_at_is_said(run, tmp_path, capsys):
    lost = make_run(tmp_path / "run", str(tmp_path / "gone.npz"))
    assert main(["report", lost.folder, "--json"]) == 0
    absent = json.loads(capsys.readouterr().out)["absent"]
    assert set(absent) == {"views", "neighbours", "map", "confusion"}
    assert "leads nowhere" in absent["map"] and "Give the images: --data D." in absent["map"]
    assert main(["report", lost.folder, "--data", "gone.npz"]) == 2
    assert "gone.npz" in capsys.readouterr().err


@pytest.mark.slow
def test_pre_training_ends_with_its_report(data, tmp_path, shallow, reports, capsys):
    done = moco_tf.pretrain(config(data, tmp_path / "run", epochs=1))
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert 'id="confusion"' in page and page.count('class="query"') == 4
    out = capsys.readouterr().out
    assert f"all of it is in {tmp_path / 'run'}: report.html to look at, checkpoints/" in out
    assert check_run(tmp_path / "run")["unknown"] == []
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"images": 0, "tensors": 0})
    found.Reload()
    steps = {
        name: [event.step for event in found.Tensors(f"pictures/{name}")]
        for name in ("views", "neighbours")
    }
    assert steps == {"views": [0], "neighbours": [0, 3]}
    plain = moco_tf.pretrain(config(data, tmp_path / "plain", epochs=1), report=False)
    assert plain.summary["state_sha256"] == done.summary["state_sha256"]
    timed = ("images_per_second", "data_wait")
    rows = [
        [{name: row[name] for name in row.keys() - set(timed)} for row in one.metrics]
        for one in (done, plain)
    ]
    assert rows[0] == rows[1]
    shown = done.report(pictures=0, out=tmp_path / "short.html")
    assert shown.path == tmp_path / "short.html"
    assert shown._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')


def test_a_report_that_fails_ends_nothing(tmp_path, monkeypatch):
    def fails(folder):
        raise RuntimeError("no\nidea")

    monkeypatch.setattr("moco_tf.report.after.read", fails)
    said = []
    assert report_results(tmp_path, said.append) is False
    assert said == [
        f"the report was not written (RuntimeError: no idea); try again: moco-tf report {tmp_path}"
    ]
