"""Objects of Python as images: arrays, lists, and sources of several libraries."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.runs import config

from moco_tf.building import build_images
from moco_tf.commands.cli import main
from moco_tf.data.failures import readable
from moco_tf.data.pipeline import decoded, eval_batches
from moco_tf.data.sources import open_images
from moco_tf.errors import InputError
from moco_tf.names.data import text_of

COUNT = 80  # more than are looked at as a source is opened
EVERY = 13  # images of which one is read; both kinds of a mixed source come
NAMES = ("cat", "dog")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 12, 10, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def files(pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return sorted(folder.iterdir())


class Source:
    """Gives what `item` makes of an index."""

    def __init__(self, item, length=lambda: COUNT):
        self.item, self.length = item, length

    def __len__(self):
        return self.length()

    def __getitem__(self, index):
        return self.item(index)


def read(images, every=1):
    return np.stack(
        [decoded(images, tf.constant(n, tf.int64)).numpy() for n in range(0, images.count, every)]
    )


FORMS = {
    "arrays": lambda pixels, files: lambda n: pixels[n],
    "with alpha": lambda pixels, files: lambda n: np.pad(pixels[n], [(0, 0), (0, 0), (0, 1)]),
    "Pillow's": lambda pixels, files: lambda n: Image.open(files[n]),
    "bytes": lambda pixels, files: lambda n: files[n].read_bytes(),
    "paths": lambda pixels, files: lambda n: files[n],
    "tensors": lambda pixels, files: lambda n: tf.constant(pixels[n]),
    "mixed": lambda pixels, files: lambda n: pixels[n] if n % 2 else files[n].read_bytes(),
    "mixed, arrays first": lambda pixels, files: lambda n: files[n] if n % 2 else pixels[n],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_is_the_same_image(pixels, files, form):
    give = FORMS[form](pixels, files)
    plain, _ = open_images(Source(give))
    paired, _ = open_images(Source(lambda n: (give(n), n % 2)))
    mapped, test = open_images(
        {"train": Source(lambda n: {"image": give(n), "label": NAMES[n % 2]})}
    )
    for images in (plain, paired, mapped):
        np.testing.assert_array_equal(read(images, EVERY), pixels[::EVERY])
    assert plain.labels is None and test is None
    assert paired.labels.tolist() == mapped.labels.tolist() == [n % 2 for n in range(COUNT)]
    assert (paired.class_names, mapped.class_names) == (("0", "1"), NAMES)
    # However a source gives the images, they are known to be the same ones.
    assert {i.identity for i in (plain, paired)} == {open_images(list(pixels))[0].identity}


def test_labels_may_be_missing_and_test_parts_have_the_classes_of_training(pixels):
    train = [(image, [3, None, "x"][n % 3]) for n, image in enumerate(pixels[:6])]
    parts = {"Train": train, "validation": train[2:4], "extra": train}
    images, test = open_images(parts)
    assert (images.class_names, images.labels.tolist()) == (("3", "x"), [0, -1, 1, 0, -1, 1])
    assert (test.labels.tolist(), test.split) == ([1, 0], "validation")
    assert images.passed_over == ("extra",)
    with pytest.raises(InputError, match="the test label '7', which no training image has"):
        open_images({"train": train, "test": [(pixels[0], 7)]})


def test_arrays_and_arrays_with_labels(pixels):
    images, _ = open_images(pixels)
    assert images.labels is None and not images.encoded
    images, _ = open_images((pixels, np.arange(COUNT) % 2))
    assert images.labels.tolist() == [n % 2 for n in range(COUNT)]
    gray, _ = open_images(pixels[..., 0])
    np.testing.assert_array_equal(read(gray)[..., 2], pixels[..., 0])


def test_a_memory_map_is_read_image_by_image(pixels, tmp_path):
    np.save(tmp_path / "a.npy", pixels)
    images, _ = open_images(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert images.pixels is None
    np.testing.assert_array_equal(read(images), pixels)


def test_sources_of_pytorch_with_targets_are_not_read_for_their_labels(pixels):
    asked = []
    source = Source(lambda n: asked.append(n) or (pixels[n], n % 2))
    source.targets, source.classes = [n % 2 for n in range(COUNT)], list(NAMES)
    images, _ = open_images(source)
    assert images.class_names == NAMES and images.labels.tolist() == source.targets
    assert len(set(asked)) == 64


def test_hugging_face(pixels, files):
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    columns = {"image": list(map(str, files)), "label": [n % 2 for n in range(COUNT)]}
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}
    source = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    parts = datasets.DatasetDict({"train": source, "test": source.select(range(3))})
    images, test = open_images(parts)
    assert images.encoded and (images.class_names, test.count) == (NAMES, 3)
    assert images.labels.tolist() == columns["label"]
    np.testing.assert_array_equal(read(images), pixels)
    turned = source.with_transform(lambda rows: {"image": [pixels[7]] * len(rows["image"])})
    np.testing.assert_array_equal(read(open_images(turned)[0])[5], pixels[7])


def test_grain(pixels):
    grain = pytest.importorskip("grain", reason="Grain is not installed")
    source = grain.MapDataset.source(Source(lambda n: {"image": pixels[n], "label": n % 2}))
    images, _ = open_images(source.map(lambda row: row | {"label": 1 - row["label"]}))
    np.testing.assert_array_equal(read(images), pixels)
    assert images.labels.tolist() == [1 - n % 2 for n in range(COUNT)]


def _fails(index):
    raise KeyError("lost")


GROWING = iter(range(10, 10**6))
BAD = {
    "text": (lambda p: Source(lambda n: "no file"), "item 0: it raised FileNotFoundError: "),
    "a number": (
        lambda p: Source(lambda n: 3.5),
        "item 0: it is not an image but float; give uint8",
    ),
    "three": (
        lambda p: Source(lambda n: (p[n], 1, 2)),
        "item 0: it is not an image but tuple; give uint8",
    ),
    "floats": (
        lambda p: Source(lambda n: p[n] / 255),
        "not an image but float64 [12, 10, 3]",
    ),
    "channels first": (lambda p: Source(lambda n: p[n].transpose(2, 0, 1)), "uint8 [3, 12, 10]"),
    "other keys": (
        lambda p: Source(lambda n: {"jpg": p[n]}),
        "no 'image'; its keys are ['jpg']",
    ),
    "an error": (lambda p: Source(_fails), "item 0: it raised KeyError: 'lost'"),
    "a later error": (
        lambda p: Source(lambda n: p[n] if n < 70 else _fails(n)),
        "KeyError: 'lost'",
    ),
    "other bytes": (
        lambda p: Source(lambda n: b"?"),
        "64 of 64 images that were looked at",
    ),
    "growing": (lambda p: Source(lambda n: p[n], lambda: next(GROWING)), "changed from 10 to 11"),
    "no number": (
        lambda p: Source(lambda n: p[n], lambda: "3"),
        "its length: it raised TypeError",
    ),
    "nothing": (lambda p: [], "holds no images"),
    "a label's error": (lambda p: Source(lambda n: (p[n], n) if n != 40 else _fails(n)), "item 40"),
    "an iterator": (iter, "has no random access"),
    "tf.data": (
        tf.data.Dataset.from_tensor_slices,
        "a tf.data.Dataset has no random access, which the order and exact resume need. Give a "
        "source with __len__ and __getitem__, as moco_tf.pretrain(data=source), or write TFRecords",
    ),
    "parts": (lambda p: {"a": p}, "is a mapping without 'train'; its keys are ['a']"),
    "no uint8": (lambda p: p / 255, "images must be uint8 [n, h, w, 3]"),
    "fewer labels": (lambda p: (p, np.zeros(3, int)), "there are 3 labels for 80 images"),
    "its text": (lambda p: "object:list", "was an object of Python, which is not kept"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sources_are_one_line(pixels, name):
    make, said = BAD[name]
    with pytest.raises(InputError) as caught:
        open_images(make(pixels))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        (_fails, r"item 7 of \S*Source could not be read \(it raised KeyError: 'lost'\)"),
        (lambda n: np.zeros(3), r"item 7 of \S*Source could not be read \(.*float64 \[3\]"),
        (lambda n: b"?", r"item 7 of \S*Source could not be read \(.*no JPEG"),
    ],
)
def test_an_item_that_fails_later_is_named_with_its_error(pixels, files, encoded, what, said):
    good = (lambda n: files[n].read_bytes()) if encoded else (lambda n: pixels[n])
    source = Source(good)
    images, _ = open_images(source)
    source.item = lambda n: what(n) if n == 7 else good(n)
    with pytest.raises(InputError, match=said) as caught:
        list(eval_batches(images, indices=np.arange(20), image_size=8, batch_size=4))
    assert "\n" not in str(caught.value)
    assert "Mend that item, or leave it out of the source." in str(caught.value)


def test_a_source_that_grows_later_stops_the_run(pixels):
    length = [COUNT]
    images, _ = open_images(Source(lambda n: pixels[n], lambda: length[0]))
    length[0] += 1
    with pytest.raises(InputError, match="the length of the source changed from 80 to 81"):
        list(readable(tf.data.Dataset.range(3).map(images.read), images, np.arange(3)))


def test_small_images_are_refused_by_the_sizes_of_those_that_were_looked_at(pixels, tmp_path):
    settings = config("shapes", tmp_path / "run")
    source = Source(lambda n: pixels[n])
    with pytest.raises(InputError, match=r"64 of 64 images of .* that were looked at are smaller"):
        build_images(settings, source=source)
    larger = settings.model_copy(update={"max_small_images": 1.0})
    assert build_images(larger, source=source)[0].count == COUNT


def test_a_run_records_the_class_and_asks_for_the_object(tmp_path, capsys):
    assert text_of(io.BytesIO(b"")) == "object:_io.BytesIO"
    assert (text_of([1]), text_of(np.zeros(3))) == ("object:list", "object:numpy.ndarray")
    assert main(["pretrain", "--data", "object:list", "--run-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "was an object of Python, which is not kept. Give it again" in said
    assert not (tmp_path / "run").exists()
