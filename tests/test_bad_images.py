"""Unreadable images that training meets: passed over, counted, named once, or refused."""

import json
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.quick_runs import Event
from support.runs import config, metrics

from moco_tf.building import build_batches
from moco_tf.commands.cli import main
from moco_tf.data import file_sizes
from moco_tf.data.decode import decoded
from moco_tf.data.file_names import FileNames, joined
from moco_tf.data.order import StepOrder, epoch_order
from moco_tf.data.pipeline import eval_batches
from moco_tf.data.readable import ReadableBatches, read_in_place_of
from moco_tf.data.sample import surely_more
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError
from moco_tf.pretraining import pretrain
from moco_tf.pretraining.bad_images import BadImages

COUNT, BATCH = 600, 16
BAD = {  # 2 % of the images, of four kinds
    **{n: b"" for n in (7, 123, 340)},
    **{n: b"<html><body>404</body></html>" for n in (50, 51, 52)},
    **{n: None for n in (200, 300, 460, 461, 599, 0)},  # cut off
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for n in range(COUNT):
        path = folder / f"{n // 60}" / f"{n:03}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((20, 20)).save(path)
        if n in BAD:
            path.write_bytes(path.read_bytes()[:300] if BAD[n] is None else BAD[n])
    (folder / "0/x.jpg").mkdir()
    return folder


def settings(folder, run_dir, **changes):
    return config(str(folder), run_dir, **{"epochs": 2, "max_bad_images": 0.02} | changes)


def listed(run_dir):
    return [json.loads(line) for line in (run_dir / "bad_images.jsonl").read_text().splitlines()]


def met_by_definition(seed, count, bad):
    """(step, index) of each bad image in the order in which two epochs meet them."""
    steps, met = count // BATCH, {}
    for epoch in range(2):
        order = epoch_order(seed, epoch, count).tolist()
        for place in range(steps * BATCH):
            at = place
            while order[at % count] in bad:
                met.setdefault(order[at % count], epoch * steps + place // BATCH + 1)
                at += 1
    return sorted((step, index) for index, step in met.items())


@pytest.mark.slow
def test_a_run_goes_on_counts_and_names_and_resumes_inside_the_epoch(quick, folder, tmp_path):
    changes = {"checkpoint_every": 10}
    summary = pretrain(settings(folder, tmp_path / "whole", **changes))
    rows = listed(tmp_path / "whole")
    expected = met_by_definition(0, COUNT, BAD)
    assert sorted((row["step"], row["index"]) for row in rows) == expected
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert all(row["file"].endswith(f"{row['index']:03}.jpg") for row in rows)
    reasons = {row["index"]: row["reason"] for row in rows}
    assert (
        reasons[50]
        == reasons[7]
        == "it is no JPEG, PNG, BMP, GIF, WebP, TIFF, PPM, PGM, PBM or AVIF"
    )
    assert "JPEG" in reasons[200] and max(map(len, reasons.values())) < 100
    assert summary["bad_images"] == len(expected) == len({row["index"] for row in rows})
    for row in metrics(tmp_path / "whole"):
        assert row["bad_images"] == sum(step <= row["step"] for step, _ in expected)

    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    for step in (17, 48):  # after checkpoints of steps 10 and 40
        with pytest.raises(Killed):
            pretrain(settings(folder, tmp_path / "run", **changes), reporter=Event(step, kill))
    again = pretrain(settings(folder, tmp_path / "run", **changes))
    assert again["state_sha256"] == summary["state_sha256"]
    assert listed(tmp_path / "run") == rows
    numbers = [
        [(row["step"], row["loss"], row["bad_images"]) for row in metrics(tmp_path / name)]
        for name in ("run", "whole")
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.slow
def test_the_next_readable_image_of_the_order_takes_the_place(folder):
    images, _ = open_images(str(folder), look="some", max_bad_images=1)
    order = StepOrder(3, COUNT, BATCH, COUNT // BATCH)
    dataset = (
        order.dataset()
        .map(lambda i, p: (images.read(i), i, p))
        .map(lambda contents, i, p: (tf.io.decode_jpeg(contents), i, p))
    )
    batches = ReadableBatches(images, order, dataset.batch(BATCH))
    natural = epoch_order(3, 0, COUNT).tolist()
    for step in range(COUNT // BATCH):
        pixels, indices, positions = next(batches)
        for row in range(BATCH):
            place = step * BATCH + row
            at = place
            while natural[at % COUNT] in BAD:
                at += 1
            index = natural[at % COUNT]
            assert (int(indices[row]), int(positions[row])) == (index, place)
            stored = tf.io.read_file(images.files[index])
            np.testing.assert_array_equal(pixels[row], tf.io.decode_jpeg(stored))


def test_an_image_noted_by_an_evaluation_after_its_batch_was_asked_for_is_stood_in_for(folder):
    images, _ = open_images(str(folder), look="some", max_bad_images=1)
    order, steps = StepOrder(3, COUNT, BATCH, COUNT // BATCH), COUNT // BATCH
    asked = order.dataset().map(lambda i, p: (tf.io.decode_jpeg(images.read(i)), i))
    dataset = asked.batch(BATCH).prefetch(steps)
    begun = ReadableBatches(images, order, dataset)
    found = [next(begun)[1]]
    time.sleep(1)  # the batches that follow are asked for
    order.unreadable.update(dict.fromkeys(BAD, "noted"))
    found += [next(begun)[1] for _ in range(steps - 1)]
    wanted = StepOrder(3, COUNT, BATCH, steps, unreadable=dict.fromkeys(BAD, "noted"))
    for step, indices in enumerate(found):
        np.testing.assert_array_equal(indices, wanted.of_step(step)[0])


@pytest.mark.slow
def test_an_evaluation_tells_what_it_read_in_place_of_unreadable_images(folder):
    images, _ = open_images(str(folder), look="some", max_bad_images=1)
    images, indices = replace(images, unreadable={}), np.arange(40, 130)
    settings = {"image_size": 20, "batch_size": 16}
    found = np.concatenate([*eval_batches(images, indices=indices, **settings)])
    assert sorted(images.unreadable) == [50, 51, 52, 123]
    expected = [{50: 53, 51: 53, 52: 53, 123: 124}.get(n, n) for n in indices.tolist()]
    assert read_in_place_of(images, indices).tolist() == expected
    for pixels, index in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pixels, decoded(images, index))
    with pytest.raises(InputError, match=r"050\.jpg could not be read"):  # nothing stands in
        list(eval_batches(images, indices=np.array([50, 51]), **settings))


@pytest.mark.slow
def test_a_share_beyond_the_limit_is_refused_at_once_or_as_soon_as_it_is_passed(
    quick, folder, tmp_path
):
    changes = {"max_bad_images": 0.005}  # three images
    with pytest.raises(InputError, match=r"jpg could not be read .* 4 of 600 .*=0\.005") as caught:
        pretrain(settings(folder, tmp_path / "run", **changes))
    assert "\n" not in str(caught.value)
    step = met_by_definition(0, COUNT, BAD)[3][0]
    assert f"after step {step - 1}, which is saved" in str(caught.value)
    assert pretrain(settings(folder, tmp_path / "run", max_steps=step + 1))["step"] == step + 1
    many = tmp_path / "many"
    many.mkdir()
    for n in range(400):
        good = n % 5
        (many / f"{n:03}.jpg").write_bytes((folder / "0/001.jpg").read_bytes() if good else b"")
    seen = np.unique(np.linspace(0, 399, 128).astype(int))
    with pytest.raises(InputError, match=f"{(seen % 5 == 0).sum()} of 128 images that were looked"):
        pretrain(settings(many, tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_files_that_are_removed_and_cut_off_while_training_are_named(quick, tmp_path):
    images, rng = tmp_path / "images", np.random.default_rng(0)
    images.mkdir()
    for n in range(96):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{n}.png")

    def happens():
        (images / "7.png").unlink()
        (images / "8.png").write_bytes((images / "8.png").read_bytes()[:100])

    run = settings(images, tmp_path / "run", epochs=6, max_bad_images=0.03)
    assert pretrain(run, reporter=Event(3, happens))["bad_images"] == 2
    assert {row["file"] for row in listed(tmp_path / "run")} == {
        str(images / "7.png"),
        str(images / "8.png"),
    }


@pytest.mark.slow
def test_two_workers_read_the_rows_of_one_and_know_what_the_other_met(folder, tmp_path):
    run = settings(folder, tmp_path)
    images, _ = open_images(str(folder), look="some", max_bad_images=1)
    halves = [np.arange(BATCH // 2), np.arange(BATCH // 2, BATCH)]
    one, *two = (build_batches(run, images, 30, rows) for rows in (None, *halves))

    class Workers:
        chief = False

        def from_chief(self, value):
            return value

        def elementwise_max(self, numbers):
            return np.maximum(*both)

    class Reporter:
        def line(self, text):
            said.append(text)

    said = []
    known = [BadImages(batches, 1, tmp_path, Workers(), Reporter(), 0) for batches in two]
    alone = BadImages(one, 1, tmp_path, Workers(), Reporter(), 0)
    for step in range(30, 60):
        whole, parts = next(one), [next(batches) for batches in two]
        for view in (0, 1):
            np.testing.assert_array_equal(
                whole[view], np.concatenate([part[view] for part in parts])
            )
        both = [k._passed() for k in known]
        np.testing.assert_array_equal(np.maximum(*both), alone._passed())
        if any(k.any_new() for k in known):
            for k in (*known, alone):
                k.note(step)
        assert known[0].row() == known[1].row() == alone.row()
    assert alone.row()["bad_images"] > 5


@pytest.mark.parametrize(
    ("bad", "seen", "count", "share", "sure"),
    [
        (0, 256, 10**6, 0.0, False),
        (1, 256, 10**6, 0.0, True),
        (4, 256, 10**6, 0.01, False),  # 1.6 %, which 1 % gives one time in four
        (51, 256, 10**6, 0.01, True),
        (3, 256, 256, 0.01, True),  # all were seen
        (2, 256, 256, 0.01, False),
        (256, 256, 10**6, 1.0, False),
    ],
)
def test_a_sample_refuses_only_what_the_share_as_good_as_never_gives(bad, seen, count, share, sure):
    assert surely_more(bad, seen, count, share) is sure


def test_check_reads_every_image_and_names_the_unreadable_ones(folder, capsys):
    assert main(["check", "--data", str(folder), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    named = {int(Path(one["file"]).stem): one["reason"] for one in result["unreadable"]}
    assert (result["images"], result["whole"], named.keys()) == (COUNT, False, BAD.keys())
    assert all(named.values())


@pytest.mark.parametrize("line", ["check", "check run --data folder"])
def test_check_takes_a_run_or_data(line, capsys):
    assert main(line.split()) == 2
    assert "a run folder or --data, one of them" in capsys.readouterr().err


def test_names_of_a_million_files_take_their_bytes(tmp_path):
    runs = [(f"n{d:08}", [f"n{d:08}_{n}.JPEG" for n in range(1000)]) for d in range(100)]
    tracemalloc.start()
    files = FileNames(tmp_path, runs)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(files) == 100_000 and files[99_999] == tmp_path / "n00000099/n00000099_999.JPEG"
    assert files.inner(-1) == b"n00000099/n00000099_999.JPEG"
    assert held < 100_000 * (len("n00000099/n00000099_999.JPEG") + 1 + 8) * 1.1
    deeper = joined(tmp_path.parent, [files, files])
    assert [deeper[n] for n in (0, 100_000)] == [files[0]] * 2
    assert deeper.folders[0] == (f"{tmp_path.name}/n00000000", 1000)
    assert list(files.chosen([5, 3])) == [files[5], files[3]]


def test_headers_give_the_sizes_and_are_kept(tmp_path, cache, monkeypatch):
    for n in range(5):
        Image.new("RGB", (20 + n, 30)).save(tmp_path / f"{n}.png")
    (tmp_path / "5.jpg").write_bytes(b"none")
    opened = open_images(str(tmp_path), look="headers", max_bad_images=0.5)[0]
    assert opened.sizes.tolist() == [*([30, 20 + n] for n in range(5)), [0, 0]]
    asked = []
    monkeypatch.setattr(file_sizes, "_read_headers", lambda rows, _: asked.append(len(rows)) or [])
    again = open_images(str(tmp_path), look="headers", max_bad_images=0.5)[0]
    assert again.sizes.tolist() == opened.sizes.tolist() and asked == [1]
