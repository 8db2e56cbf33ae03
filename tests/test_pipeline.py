"""Order, resumption and formats: what reaches a step depends on seed and step alone."""

import io
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.views import making, views_of

from moco_tf.data.augment.crop import resize, resized_crops_batch
from moco_tf.data.decode import decode
from moco_tf.data.order import epoch_order
from moco_tf.data.pipeline import (
    centre_crop,
    eval_batches,
    labelled_crops,
    steps_per_epoch,
)
from moco_tf.data.sources import Images, check_sizes, from_arrays, open_images
from moco_tf.data.view_making import DeviceColor, DeviceCrop, DeviceImages, HostViews
from moco_tf.errors import InputError

SETTINGS = {"augmentation": "v2", "batch_size": 4, "image_size": 8, "seed": 7}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return from_arrays("test", rng.integers(0, 256, (10, 12, 12, 3), dtype=np.uint8))


def take(images, start, count, **changes):
    dataset = views_of(images, start_step=start, **SETTINGS | changes).take(count)
    return [tuple(view.numpy() for view in views) for views in dataset]


@pytest.mark.slow
@pytest.mark.parametrize(
    "augmentation",
    [
        *(pytest.param(name, marks=pytest.mark.long) for name in ("v1", "demo", "v3")),
        "v2",
        "simclr",
    ],
)
def test_a_pipeline_can_start_at_any_step(images, augmentation):
    whole = take(images, 0, 6, augmentation=augmentation)
    assert whole[0][0].shape == (4, 8, 8, 3)
    for start in (1, 2, 3, 5):  # two steps an epoch: inside and at the start of one
        later = take(images, start, 6 - start, augmentation=augmentation)
        for ours, theirs in zip(whole[start:], later, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])


@pytest.mark.parametrize(
    "augmentation", ["v1", "demo", *(pytest.param(n, marks=pytest.mark.slow) for n in ("v2", "v3"))]
)
def test_views_are_the_same_wherever_they_are_finished(images, augmentation):
    settings = SETTINGS | {"augmentation": augmentation, "image_size": 12, "start_step": 1}
    whole, crops, placed = (
        [next(batches) for _ in range(3)]
        for batches in (
            iter(views_of(images, **settings, way=way))
            for way in (HostViews, DeviceColor, DeviceImages)
        )
    )
    color = making(augmentation, 12, DeviceColor)
    held = making(augmentation, 12, DeviceImages, pixels=images.pixels)
    for step in range(3):
        for view in (0, 1):
            expected = whole[step][view]
            np.testing.assert_array_equal(color.on_device(crops[step][view]), expected)
            finished = held.on_device(placed[step][view]).numpy()
            # A crop may be a level off where its rounding is a tie, the colours of it a few.
            off = np.abs(finished.astype(int) - expected.numpy())
            assert (off > 1).mean() <= 0.02 and off.max() <= 8


@pytest.mark.parametrize("large", [False, True])
def test_crops_are_the_same_from_canvases(large):
    """Also of an image too large for its canvas: its crops come resized, and stay what they are."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(12, 9), (10, 16)] * 10]
    if large:
        pixels[7] = rng.integers(0, 256, (9, 40, 3), np.uint8)
    table = tf.ragged.stack([tf.constant(p) for p in pixels])
    sizes = np.array([p.shape[:2] for p in pixels], np.int32)
    images = Images("sizes", 20, lambda i: table[i].to_tensor(), False, sizes=sizes)
    settings = SETTINGS | {"augmentation": "demo", "batch_size": 10, "start_step": 0}
    crops, canvases = (
        views_of(images, **settings, way=way).take(2) for way in (DeviceColor, DeviceCrop)
    )
    for expected, found in zip(crops, canvases, strict=True):
        for (crop, its_draws), view in zip(expected, found, strict=True):
            canvas, windows, draws = view
            assert canvas.shape == (10, 12, 16, 3)
            np.testing.assert_array_equal(draws, its_draws)
            off = np.abs(
                resized_crops_batch(canvas, windows, 8).numpy().astype(int) - crop.numpy()
            )  # where the rounding is a tie, or Pillow begins along the columns
            assert off.max() <= 1 and off.mean() <= 0.06
            views = making("demo", 8, DeviceCrop).on_device(view)
            assert views.shape == (10, 8, 8, 3) and views.dtype == tf.uint8


@pytest.mark.slow
def test_views_epochs_and_seeds_differ(images):
    first, second = take(images, 0, 1)[0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, take(images, 2, 1)[0][0])
    assert not np.array_equal(first, take(images, 0, 1, seed=8)[0][0])


def test_an_epoch_shows_each_image_at_most_once():
    """Images of one colour each, which a crop keeps: the views tell which images came."""
    colors = np.arange(10, dtype=np.uint8)[:, None, None, None] * 20
    images = from_arrays("flat", np.broadcast_to(colors, (10, 12, 12, 3)))
    settings = {"augmentation": "simclr", "color": 0.0, "seed": 1}
    batches = take(images, 0, 6, **settings)  # two whole batches of four an epoch
    shown = [np.round(view1[:, 4, 4, 0] / 20) for view1, _ in batches]
    for epoch in range(3):
        order = epoch_order(1, epoch, 10)
        np.testing.assert_array_equal(np.sort(order), np.arange(10))
        np.testing.assert_array_equal(np.concatenate(shown[2 * epoch : 2 * epoch + 2]), order[:8])
    assert len({tuple(epoch_order(1, epoch, 10)) for epoch in range(3)}) == 3


def take_crops(images, start, count, **changes):
    settings = {"batch_size": 4, "image_size": 8, "min_area": 0.08, "seed": 1} | changes
    dataset = labelled_crops(images, start_step=start, **settings).take(count)
    return [(crops.numpy(), labels.numpy()) for crops, labels in dataset]


def test_labelled_crops_show_each_image_once_and_fill_up_the_last_batch():
    """Ten images of one colour each, three batches an epoch; the last has two of label -1."""
    colors = np.arange(10, dtype=np.uint8)[:, None, None, None] * 20
    images = from_arrays(
        "flat", np.broadcast_to(colors, (10, 12, 12, 3)), labels=(np.arange(10) + 3) % 10
    )
    batches = take_crops(images, 0, 6)
    for epoch in range(2):
        crops, labels = (
            np.concatenate(part) for part in zip(*batches[3 * epoch : 3 * epoch + 3], strict=True)
        )
        order = epoch_order(1, epoch, 10)
        np.testing.assert_array_equal(crops[:10, 4, 4, 0] // 20, order)
        np.testing.assert_array_equal(labels[:10], (order + 3) % 10)
        np.testing.assert_array_equal(labels[10:], [-1, -1])


def test_labelled_crops_can_start_at_any_step(images):
    labelled = from_arrays("l", np.stack([images.read(i) for i in range(10)]), np.arange(10))
    whole = take_crops(labelled, 0, 7)
    for start in (1, 3, 5):
        later = take_crops(labelled, start, 7 - start)
        for ours, theirs in zip(whole[start:], later, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])
    assert not np.array_equal(whole[0][0], take_crops(labelled, 0, 1, seed=2)[0][0])


def test_labelled_crops_have_the_area_and_the_flips_of_the_protocol():
    """A ramp over the columns: its range tells the width of a crop, its direction the flip."""
    ramp = np.broadcast_to(np.arange(0, 200, 2, dtype=np.uint8)[:, None], (100, 100, 3))
    images = from_arrays("ramp", np.stack([ramp, ramp]), labels=[0, 1])
    crops = np.concatenate([crops for crops, _ in take_crops(images, 0, 150, image_size=50)])
    real = crops.reshape(150, 4, 50, 50, 3)[:, :2, 25, :, 0].reshape(300, 50).astype(float)
    slope = real[:, -1] - real[:, 0]
    widths = np.abs(slope) / 49 * 50 / 200  # as a share of the image's
    assert np.mean(slope < 0) == pytest.approx(0.5, abs=0.09)
    # Of a square image: area uniform in 0.08 to 1, aspect within 3/4 to 4/3, so its root.
    assert np.mean(widths) == pytest.approx(0.67, abs=0.04)
    assert 0.23 < widths.min() < 0.4 and widths.max() > 0.95


def test_order_is_pinned():
    np.testing.assert_array_equal(epoch_order(0, 0, 8), ORDER_0_0_8)


# Order of the first epoch of seed 0: it may never change, or saved runs would not resume.
ORDER_0_0_8 = [0, 2, 1, 5, 4, 3, 6, 7]


def test_steps_per_epoch_drops_the_rest_and_refuses_too_few():
    assert steps_per_epoch(1281167, 256) == 5004
    with pytest.raises(InputError, match="batch_size=11"):
        steps_per_epoch(10, 11)


def test_evaluation_keeps_order_and_the_last_partial_batch(images):
    batches = list(eval_batches(images, indices=np.arange(9), image_size=12, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    np.testing.assert_array_equal(batches[2][0], images.read(8))


@tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
def centre(image):
    return centre_crop(image, 32)


def middle_of_the_whole(image, side=32):
    """The whole image resized, in float32 by TensorFlow, and its middle cut out."""
    target, (height, width) = round(side * 256 / 224), image.shape[:2]
    size = [target * n // min(height, width) for n in (height, width)]
    top, left = (round((n - side) / 2) for n in size)
    return resize(image, size).numpy()[top : top + side, left : left + side]


def shapes():
    """Reduced and enlarged, of aspects up to 7: as images are."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        short = rng.integers(1, 300)
        sides = [short, min(short * 7, int(short * np.exp(rng.uniform(0, np.log(7)))))]
        yield tuple(sides if rng.random() < 0.5 else sides[::-1])


def test_the_middle_is_that_of_the_whole_bit_for_bit():
    rng = np.random.default_rng(1)
    for shape in [*shapes(), (1, 1), (36, 36), (37, 36), (224, 224), (31, 32), (32, 224)]:
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        np.testing.assert_array_equal(centre(image), middle_of_the_whole(image), str(shape))


def test_the_middle_of_a_line_or_a_panorama_is_the_filters():
    """A level off at most, where the positions in float32 make the tie another's."""
    rng = np.random.default_rng(1)
    for shape in [
        (1, 20),
        (20, 1),
        (1, 2000),
        (2000, 1),
        (3, 100),
        (7, 61),
        (40, 3000),
        (5000, 90),
    ]:
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        off = np.abs(centre(image).numpy().astype(int) - middle_of_the_whole(image))
        assert off.max() <= 1 and off.mean() < 0.1, shape


@pytest.mark.parametrize("shape", [(1, 80_000_000), (80_000_000, 1)])
def test_a_line_costs_no_more_than_its_middle(shape):
    """All of it, enlarged, would be more than 10**12 values."""
    line = np.zeros((*shape, 3), np.uint8)
    line.reshape(-1, 3)[39_999_999:40_000_001] = 200
    middle = centre(line).numpy()
    assert middle.max() == 200 and middle[16, 16].min() == 200


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photo():
    x, y = np.meshgrid(np.arange(40), np.arange(30))
    return Image.fromarray(np.stack([x * 6, y * 8, (x + y) * 3], -1).astype(np.uint8))


def test_formats_become_rgb(tmp_path, photo):
    black = Image.new("RGB", photo.size)
    gray16 = Image.fromarray((np.arange(1200).reshape(30, 40) * 50).astype(np.uint16))
    files = {
        "a.jpg": encoded(photo, "JPEG", quality=95),
        "b.png": encoded(photo, "PNG"),
        "c.bmp": encoded(photo, "BMP"),
        "d.gif": encoded(photo, "GIF"),
        "e.webp": encoded(photo, "WEBP", lossless=True),
        "f.jpeg": encoded(photo.convert("L"), "JPEG"),
        "g.png": encoded(photo.convert("RGBA"), "PNG"),
        "h.jpg": encoded(photo.convert("CMYK"), "JPEG", quality=95),
        "i.png": encoded(photo.convert("P"), "PNG"),
        "j.png": encoded(photo.convert("LA"), "PNG"),
        "k.png": encoded(gray16, "PNG"),
        "l.bmp": encoded(photo.convert("L"), "BMP"),
        "m.png": encoded(photo, "JPEG", quality=95),  # a wrong extension
        "n.bmp": encoded(photo.quantize(200), "BMP"),
        "o.bmp": encoded(photo.convert("1"), "BMP"),
        "p.webp": encoded(photo, "WEBP", lossless=True, save_all=True, append_images=[black]),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    train, test = open_images(str(tmp_path))
    assert train.skipped == ()
    assert test is None
    assert train.labels is None
    assert train.count == len(files)
    decoded = np.concatenate(
        list(eval_batches(train, indices=np.arange(len(files)), image_size=24, batch_size=4))
    )
    reference = decoded[1].astype(int)
    for index in (0, 2, 4, 6, 12, 13, 15):
        assert np.abs(decoded[index] - reference).mean() < 3, sorted(files)[index]
    assert np.abs(decoded[7] - reference).mean() < 12  # CMYK
    for index in (5, 9, 11, 14):
        assert np.ptp(decoded[index], axis=-1).max() <= 1
    views = next(iter(views_of(train, **SETTINGS)))
    assert views[0].shape == (4, 8, 8, 3)


def make_folder(root, photo, counts):
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            (root / folder / f"{index}.png").write_bytes(encoded(photo, "PNG"))


def test_class_folders_and_splits(tmp_path, photo):
    make_folder(tmp_path, photo, {"train/cat": 3, "train/dog/deep": 2, "val/cat": 1, "val/dog": 2})
    train, test = open_images(str(tmp_path))
    assert (train.count, test.count) == (5, 3)
    assert train.class_names == ("cat", "dog")
    np.testing.assert_array_equal(train.labels, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(test.labels, [0, 1, 1])


def test_bad_files_are_skipped_and_named_up_to_the_limit(tmp_path, photo):
    make_folder(tmp_path, photo, {"all": 20})
    whole = encoded(photo, "JPEG")
    (tmp_path / "all/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "all/empty.png").write_bytes(b"")
    (tmp_path / "all/text.jpg").write_bytes(b"no image")
    train, _ = open_images(str(tmp_path), max_bad_images=0.2)
    assert train.count == 20
    assert {name.rsplit("/", 1)[1] for name in train.skipped} == {
        "cut.jpg",
        "empty.png",
        "text.jpg",
    }
    with pytest.raises(InputError, match="3 of 23 images"):
        open_images(str(tmp_path), max_bad_images=0.1)


def test_a_test_part_without_the_classes_is_no_obstacle(tmp_path, photo):
    make_folder(tmp_path, photo, {"train/cat": 3, "train/dog": 2, "test": 2})
    (tmp_path / "val").mkdir()  # empty: the next is taken
    train, test = open_images(str(tmp_path))
    assert (train.labels.tolist(), test.count, test.labels) == ([0, 0, 0, 1, 1], 2, None)
    assert "images in no class folder" in test.why_unlabelled
    make_folder(tmp_path, photo, {"val/bird": 1})
    assert "the class 'bird'" in open_images(str(tmp_path))[1].why_unlabelled


def test_only_new_and_changed_files_are_decoded_again(tmp_path, cache, photo, monkeypatch):
    make_folder(tmp_path, photo, {"set/train/a": 3, "set/train/b": 2, "set/val/a": 1})
    (tmp_path / "set/train/a/cut.jpg").write_bytes(b"no image")
    decoded = []

    def sizes():
        decoded.clear()
        parts = open_images(str(tmp_path / "set"), max_bad_images=1)
        assert parts[0].skipped[0].endswith("cut.jpg")
        return [part.sizes.tolist() for part in parts]

    def counting(contents):
        tf.py_function(lambda: decoded.append(1), [], [])
        return decode(contents)

    monkeypatch.setattr("moco_tf.data.file_sizes.decode", counting)
    first = sizes()
    assert len(decoded) == 7
    assert sizes() == first
    assert len(decoded) == 1  # what could not be decoded is tried again
    photo.resize((20, 10)).save(tmp_path / "set/train/b/1.png")
    assert sizes()[0][-1] == [10, 20]
    assert len(decoded) == 2
    (kept,) = cache.glob("images-*.npz")
    kept.write_bytes(b"damaged")
    assert sizes()[1] == first[1]
    assert len(decoded) == 7


def test_the_identity_tells_whether_the_images_are_the_same(tmp_path, photo):
    make_folder(tmp_path, photo, {"set": 3})
    before = open_images(str(tmp_path / "set"))[0].identity
    assert open_images(str(tmp_path / "set"))[0].identity == before
    (tmp_path / "set/0.png").rename(tmp_path / "set/3.png")
    assert open_images(str(tmp_path / "set"))[0].identity != before
    a, b = (from_arrays("x", np.full((2, 8, 8, 3), v, np.uint8)).identity for v in (1, 2))
    assert a != b


def test_links_are_followed_but_not_in_circles(tmp_path, photo):
    make_folder(tmp_path, photo, {"elsewhere/cat": 2, "set/dog": 3, "set/.hidden": 1})
    (tmp_path / "set/cat").symlink_to(tmp_path / "elsewhere/cat")
    (tmp_path / "set/dog/back").symlink_to(tmp_path / "set")
    (tmp_path / "set/dog/again.png").symlink_to(tmp_path / "set/dog/0.png")
    (tmp_path / "set/dog/gone.png").symlink_to(tmp_path / "absent.png")
    train, _ = open_images(str(tmp_path / "set"))
    assert train.class_names == ("cat", "dog")
    assert np.bincount(train.labels).tolist() == [2, 4]


def test_names_that_are_no_utf8_are_read(tmp_path, photo):
    try:
        path = os.fsencode(tmp_path) + b"/caf\xe9.png"
        with open(path, "wb") as file:
            file.write(encoded(photo, "PNG"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    train, _ = open_images(str(tmp_path))
    assert train.files[0].endswith("caf\ufffd.png")
    assert train.read(0) == encoded(photo, "PNG")


PIXELS = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": PIXELS}, "'images' or 'x_train'"),
        ({"images": PIXELS.astype(np.float32)}, "must be uint8"),
        ({"images": PIXELS[:0]}, "no images"),
        ({"images": PIXELS, "labels": [0, 1]}, "2 labels for 4 images"),
        ({"images": PIXELS, "labels": [0.5, 1, 2, 3]}, "integers or text; received float64"),
        (
            {"x_train": PIXELS, "y_train": [0, 0, 1, 1], "x_test": PIXELS, "y_test": [0, 1, 2, 1]},
            "test label '2'",
        ),
    ],
)
def test_an_npz_of_something_else_is_refused_by_name(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        open_images(str(tmp_path / "set.npz"))
    assert "set.npz" in str(caught.value)


@pytest.mark.parametrize("labels", [["b", "a", "b", "c"], [2, -7, 2, 10**9]])
def test_labels_of_an_npz_may_be_any_integers_or_text(tmp_path, labels):
    np.savez(tmp_path / "set.npz", images=PIXELS, labels=labels)
    train, _ = open_images(str(tmp_path / "set.npz"))
    assert train.labels.tolist() == [1, 0, 1, 2]
    assert train.class_names == tuple(str(v) for v in sorted(set(labels)))


def test_nothing_to_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        open_images(str(tmp_path / "absent"))
    with pytest.raises(InputError, match="holds no image"):
        open_images(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="can be read"):
        open_images(str(tmp_path))
    (tmp_path / "b.npz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"b\.npz is not a set of images"):
        open_images(str(tmp_path / "b.npz"))


def test_shapes_are_a_function_of_the_seed(monkeypatch):
    monkeypatch.setattr("moco_tf.data.sources.SHAPES_TRAIN", 64)
    monkeypatch.setattr("moco_tf.data.sources.SHAPES_TEST", 32)
    train, test = open_images("shapes", seed=1, image_size=32)
    again, _ = open_images("shapes", seed=1, image_size=32)
    other, _ = open_images("shapes", seed=2, image_size=32)
    np.testing.assert_array_equal(train.read(5), again.read(5))
    assert not np.array_equal(train.read(5), other.read(5))
    assert not np.array_equal(train.read(5), test.read(5))
    assert train.read(0).shape == (32, 32, 3)
    assert np.bincount(train.labels).std() == 0


def test_images_smaller_than_the_crop_are_counted_and_refused_beyond_a_share(tmp_path, photo):
    for name, size in {"a": (40, 30), "b": (40, 40), "c": (39, 60), "d": (64, 64)}.items():
        photo.resize(size).save(tmp_path / f"{name}.png")
    train, _ = open_images(str(tmp_path))
    np.testing.assert_array_equal(train.sizes, [[30, 40], [40, 40], [60, 39], [64, 64]])
    np.testing.assert_array_equal(train.smaller_than(40), [0, 2])
    check_sizes(train, 40, 0.5)
    with pytest.raises(InputError, match=r"2 of 4 .* \(the first is 40 x 30\).*image_size=40"):
        check_sizes(train, 40, 0.49)
    with pytest.raises(InputError, match="--image-size 12"):
        check_sizes(from_arrays("small", np.zeros((3, 12, 12, 3), np.uint8)), 16, 0.5)
    with pytest.raises(InputError, match="Use --max-small-images 1"):
        check_sizes(from_arrays("tiny", np.zeros((3, 3, 12, 3), np.uint8)), 16, 0.5)
    with pytest.raises(InputError, match=r"Use --image-size 12 --stem small, or --max-small"):
        check_sizes(from_arrays("small", np.zeros((3, 12, 12, 3), np.uint8)), 40, 0.5, 32)
    check_sizes(train, 39, 0.25)
    with pytest.raises(InputError, match="--image-size 39"):  # what one quarter allows
        check_sizes(train, 40, 0.25)


@pytest.mark.parametrize("augmentation", ["v1", "v2", "demo", "simclr"])
def test_every_image_of_a_batch_gets_its_own_factors(augmentation):
    """Equal images in, all different out: a factor drawn once a batch would leave equal ones."""
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    images = from_arrays("equal", np.broadcast_to(picture, (32, 12, 12, 3)))
    whole = {"batch_size": 32, "image_size": 12, "min_area": 0.9}
    view1, view2 = take(images, 0, 1, augmentation=augmentation, **whole)[0]
    brightness = np.concatenate([view1, view2]).mean((1, 2, 3))
    assert len(np.unique(np.round(brightness, 6))) >= 60
