"""Image operations against Pillow's recorded results, alone and inside tf.data."""

import hashlib
import platform
import re

import numpy as np
import PIL
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter, ImageOps

from moco_tf.augmentation import NAMED, Blur, Jitter, Solarize, View
from moco_tf.data.augment.blur import box_kernel, gaussian_blur, kernel_reach
from moco_tf.data.augment.crop import (
    TRIES,
    random_crop_window,
    resize,
    resized_crops,
    resized_crops_batch,
)
from moco_tf.data.augment.views import (
    CROP_DRAWS,
    augment,
    augment_batch,
    color,
    jitter_factors,
    view_draws,
)
from moco_tf.data.decode import crop
from moco_tf.data.pipeline import centre_crop, normalize

# Grey levels: only from 13 on, as in the records, it resizes much taller windows columns first.
OLDER_PILLOW = int(PIL.__version__.split(".")[0]) < 13


def agree(ours, recorded, levels, share=0.01):
    """At most `share` of the values are more than `levels` grey levels off."""
    off = np.abs(np.asarray(ours, int) - np.asarray(recorded, int)) > levels
    assert off.mean() <= share


def numbers(z, pattern):
    """Numbers n of the arrays called like `pattern`, e.g. "img{}/input"."""
    found = re.compile(pattern.format(r"(\d+)") + "$")
    numbers = sorted(int(match[1]) for name in z.files if (match := found.match(name)))
    assert numbers
    return numbers


def on_planes(function):
    """`function` of three planes as one of an image [H, W, 3]."""
    return lambda image: tf.stack(function(tf.unstack(tf.cast(image, tf.float32), axis=-1)), -1)


def blurred(image, sigma):
    kernel = tf.unstack(box_kernel(sigma))
    return on_planes(lambda planes: [gaussian_blur(plane, kernel) for plane in planes])(image)


def jittered(image, factors, order):
    return on_planes(lambda planes: color.jitter(planes, factors, order))(image)


def through_tf_data(function, image):
    return next(iter(tf.data.Dataset.from_tensors(image).map(function))).numpy()


@pytest.mark.golden
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("name", "operation", "levels"),
    [
        ("brightness", color.brightness, 1),
        ("contrast", color.contrast, 1),
        ("saturation", color.saturation, 1),
        ("hue", color.hue, 3),
    ],
)
def test_blends_and_hue_match_pillow(golden, name, operation, levels, inside):
    z = golden("augment")
    for n in numbers(z, f"img{{}}/{name}"):
        image = tf.constant(z[f"img{n}/input"])
        for factor, recorded in zip(z[f"factors/{name}"], z[f"img{n}/{name}"], strict=True):
            function = on_planes(lambda planes, f=factor: operation(planes, f))
            ours = through_tf_data(function, image) if inside else function(image)
            agree(ours, recorded, levels)


@pytest.mark.golden
def test_other_operations_match_pillow(golden):
    z = golden("augment")
    for n in numbers(z, "img{}/solarize"):
        image = tf.constant(z[f"img{n}/input"])
        np.testing.assert_array_equal(on_planes(color.solarize)(image), z[f"img{n}/solarize"])
        gray = np.broadcast_to(_rgb(z[f"img{n}/grayscale"]), image.shape)
        agree(on_planes(color.grayscale)(image), gray, 0)
        for order, factors, recorded in zip(
            z["factors/jitter_orders"], z["factors/jitter_bcsh"], z[f"img{n}/jitter"], strict=True
        ):
            ours = jittered(image, tf.constant(factors, tf.float32), tf.constant(order))
            agree(ours, recorded, 3)


@pytest.mark.golden
def test_blur_matches_pillow(golden):
    z = golden("augment")
    for n in numbers(z, "img{}/blur"):
        own = f"img{n}/blur_sigma"  # of the pictures that have one of their own
        sigmas = np.ravel(z[own]) if own in z.files else z["factors/sigma"]
        recorded = z[f"img{n}/blur"].reshape(len(sigmas), *z[f"img{n}/input"].shape)
        for sigma, expected in zip(sigmas, recorded, strict=True):
            agree(blurred(z[f"img{n}/input"], sigma), expected, 3, share=0)


def _rgb(image):
    return image if image.ndim == 3 else image[..., None]


@pytest.mark.golden
def test_crops_and_resizes_match_pillow(golden):
    z = golden("augment")
    for n in numbers(z, "img{}/crop_ijhw"):
        image = tf.constant(z[f"img{n}/input"])
        windows, small = tf.constant(z[f"img{n}/crop_ijhw"]), z[f"img{n}/resized_crop_32"]
        agree(resized_crops(image, windows, 32), small, OLDER_PILLOW, share=0)
        images = tf.repeat(image[None], len(windows), axis=0)
        agree(resized_crops_batch(images, windows, 32), small, 1, share=0)
        for window, recorded in zip(windows, small, strict=True):
            agree(resize(crop(image, window), [32, 32]), recorded, 1)
        large = resized_crops(image, windows[:1], 64)[0]
        agree(large, z[f"img{n}/resized_crop_64"], OLDER_PILLOW, share=0)


@pytest.mark.golden
def test_whole_pipelines_match_pillow(golden):
    z = golden("augment")
    orders = tf.constant(z["factors/jitter_orders"])
    factors = tf.constant(z["factors/jitter_bcsh"], tf.float32)
    for n in numbers(z, "img{}/pipeline_v2"):
        image, recorded = tf.constant(z[f"img{n}/input"]), z[f"img{n}/pipeline_v2"]
        small = resized_crops(image, tf.constant(z[f"img{n}/crop_ijhw"][:1]), len(recorded))[0]
        v2 = blurred(jittered(small, factors[0], orders[0]), z["factors/sigma"][2])
        agree(v2[:, ::-1], recorded, 3)
        gray = on_planes(color.grayscale)(small) if n == 0 else small
        v1 = jittered(gray, factors[1], orders[1])
        agree(v1[:, ::-1], z[f"img{n}/pipeline_v1"], 3)


@pytest.mark.golden
def test_evaluation_transform_and_normalisation_match(golden):
    z = golden("augment")
    for n in numbers(z, "val{}/input"):
        recorded = z[f"val{n}/out"]
        agree(centre_crop(tf.constant(z[f"val{n}/input"]), len(recorded)), recorded, 1)
    for n in numbers(z, "img{}/normalize_imagenet"):
        for name, kind in (("imagenet", "imagenet"), ("cifar", "cifar10")):
            ours = normalize(tf.constant(z[f"img{n}/input"]), kind).numpy().transpose(2, 0, 1)
            np.testing.assert_allclose(ours, z[f"img{n}/normalize_{name}"], atol=1e-6)


@tf.function(autograph=False)
def _windows(height, width, min_area, seed, count):
    def one(position):
        draws = tf.random.stateless_uniform([TRIES, 4], [seed, position], alg="philox")
        return random_crop_window(draws, height, width, min_area)

    return tf.map_fn(one, tf.range(count), fn_output_signature=tf.int32, parallel_iterations=32)


@pytest.mark.slow
@pytest.mark.golden
def test_crop_statistics_match_torchvision(golden):
    z = golden("augment")
    count = 4000
    found = re.compile(r"(rrc/s([\d.]+)_W(\d+)_H(\d+))/area_mean_std")
    cases = [match.groups() for name in z.files if (match := found.match(name))]
    assert cases
    for prefix, *numbers_of_case in cases:
        min_area, width, height = map(float, numbers_of_case)
        windows = _windows(int(height), int(width), min_area, 1, count).numpy().astype(float)
        top, left, h, w = windows.T
        measured = {"area": h * w / (height * width), "aspect": w / h, "i": top, "j": left}
        for name, values in (measured | {"h": h, "w": w}).items():
            mean, std = z[f"{prefix}/{name}_mean_std"]
            assert abs(values.mean() - mean) <= 5 * std / np.sqrt(count) + 1e-9, (prefix, name)
            assert values.std() == pytest.approx(std, rel=0.08, abs=1e-9), (prefix, name)


def test_mean_crop_area_of_a_landscape_image():
    windows = _windows(375, 500, 0.2, 2, 4000).numpy()
    assert (windows[:, 2] * windows[:, 3] / 187500).mean() == pytest.approx(0.495, abs=0.012)


def test_fallback_is_the_largest_central_window():
    never = tf.ones([TRIES, 4]) * 0.999  # whole area, aspect 4/3: does not fit 640 x 160
    np.testing.assert_array_equal(random_crop_window(never, 160, 640, 1.0), [0, 213, 160, 213])
    np.testing.assert_array_equal(random_crop_window(never, 640, 160, 1.0), [213, 0, 213, 160])


def test_areas_and_aspects_lie_in_the_ranges_that_are_given():
    tries = np.stack([view_draws(5, i, 0)[:CROP_DRAWS] for i in range(500)]).reshape(-1, TRIES, 4)
    windows = random_crop_window(tf.constant(tries), 400, 600, 0.05, 0.2, (0.5, 2.0)).numpy()
    area, aspect = windows[:, 2] * windows[:, 3] / 240000, windows[:, 3] / windows[:, 2]
    assert 0.049 < area.min() < 0.06 and 0.19 < area.max() < 0.201
    assert 0.49 < aspect.min() < 0.55 and 1.8 < aspect.max() < 2.02
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.06)


def test_effective_blur_kernels_have_the_known_values():
    known = {0.1: [0.99005, 0.00497], 1.0: [0.40741, 0.23611, 0.05556], 2.0: [0.19141, 0.17244]}
    for sigma, values in known.items():
        centre, near, far = box_kernel(sigma).numpy()
        one = [far, near, centre, near, far]
        three = np.convolve(np.convolve(one, one), one)
        np.testing.assert_allclose(three[6 : 6 + len(values)], values, atol=2e-5)
        assert three @ (np.arange(13) - 6.0) ** 2 == pytest.approx(sigma**2, rel=1e-4)


@pytest.mark.parametrize("sigma", [0.0, 1.4, 3.0, 12.0])
def test_three_passes_blur_by_the_sigma_however_large(sigma):
    half = box_kernel(sigma, kernel_reach(sigma)).numpy().astype(float)
    one = np.concatenate([half[:0:-1], half])
    three = np.convolve(np.convolve(one, one), one)
    distance = np.arange(len(three)) - len(three) // 2
    assert three.sum() == pytest.approx(1, abs=1e-6)
    assert np.sqrt(three @ distance**2) == pytest.approx(sigma, rel=1e-4)


PICTURE = np.kron(np.random.default_rng(8).integers(0, 256, (6, 6, 3)), np.ones((4, 4, 1)))
PICTURE = PICTURE.astype(np.uint8)
PILLOW = {
    "gray": lambda image: image.convert("L").convert("RGB"),
    "solarize": lambda image: ImageOps.solarize(image, 100),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
}


@pytest.mark.parametrize(
    "order", [("gray", "solarize", "blur"), ("solarize", "gray", "blur"), ("blur", "solarize")]
)
def test_operations_are_pillows_in_the_order_that_is_given(order):
    given = {"gray": 1.0, "solarize": Solarize(threshold=100), "blur": Blur(sigma=(4, 4))}
    expected = Image.fromarray(PICTURE)
    for name in order:
        expected = PILLOW[name](expected)
    view = View(order=order, **{name: given[name] for name in order})
    levels = 2 if order[-1] == "blur" else 0  # of Pillow's blur; which a threshold tears apart
    ours = augment(tf.constant(PICTURE), view_draws(0, 0, 0)[CROP_DRAWS:], view)
    agree(ours, expected, levels, share=0 if levels else 0.05)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flips", [(0, 0), (0, 1), (1, 1)])
def test_flips_and_turns_are_pillows(turns, flips):
    expected = Image.fromarray(PICTURE)
    for flipped, way in zip(flips, ("FLIP_LEFT_RIGHT", "FLIP_TOP_BOTTOM"), strict=True):
        expected = expected.transpose(Image.Transpose[way]) if flipped else expected
    expected = expected.transpose(Image.Transpose[f"ROTATE_{90 * turns}"]) if turns else expected
    view = View(horizontal_flip=flips[0], vertical_flip=flips[1], quarter_turns=True)
    draws = np.full(16, 0.5, np.float32)
    draws[14] = (turns + 0.5) / 4
    np.testing.assert_array_equal(augment(tf.constant(PICTURE), tf.constant(draws), view), expected)


def test_a_jitter_without_hue_leaves_gray_levels_of_colour_alone():
    view = View(jitter=Jitter(brightness=0.0))
    draws = view_draws(0, 0, 0)[CROP_DRAWS:]
    np.testing.assert_array_equal(augment(tf.constant(PICTURE), draws, view), PICTURE)


def test_every_image_and_view_has_its_own_draws():
    draws = np.stack([view_draws(0, i, v) for i in range(50) for v in (0, 1)])
    assert len(np.unique(draws[:, CROP_DRAWS + 1])) == 100
    np.testing.assert_array_equal(view_draws(3, 5, 1), view_draws(3, 5, 1))
    assert not np.array_equal(view_draws(3, 5, 1), view_draws(4, 5, 1))


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_jitter_factors_are_uniform_in_their_ranges(kind):
    drawn, strengths = slice(CROP_DRAWS + 1, CROP_DRAWS + 5), NAMED[kind].jitter.strengths
    one = tf.function(
        lambda i: jitter_factors(view_draws(1, i, 0)[drawn], strengths), autograph=False
    )
    factors = np.stack([one(i) for i in tf.range(2000)])
    hue = {"v1": 0.4, "v2": 0.1}[kind]
    low, high = np.array([0.6, 0.6, 0.6, -hue]), np.array([1.4, 1.4, 1.4, hue])
    assert (factors >= low - 1e-6).all()
    assert (factors <= high + 1e-6).all()
    width = high - low
    np.testing.assert_allclose(factors.mean(0), (low + high) / 2, atol=0.03 * width.max())
    np.testing.assert_allclose(factors.std(0), width / np.sqrt(12), rtol=0.06)


@pytest.mark.parametrize("kind", ["v1", "v2", "demo"])
def test_augmented_copies_of_one_image_all_differ(kind):
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (16, 16, 3)), tf.uint8)
    copies = {
        augment(image, view_draws(0, i, 0)[CROP_DRAWS:], NAMED[kind]).numpy().tobytes()
        for i in range(32)
    }
    assert len(copies) >= (32 if kind == "v1" else 24)  # v2 and demo skip the jitter sometimes


PINNED = {  # sha256 of 64 views; a run in a folder goes on with them
    "v1": "6953be84c0a304d529002df4ce4a7672b427b14ed80fd7df180cf3a8b1afb2f8",
    "v2": "415d864d308f6d08f94d18326d9e5eec8ec5670126863df0ec45b47ea8c13665",
    "demo": "e7a4f5be60f22c02d736442a641f3377532b137d779bbcf88768e3316115a307",
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="others may round otherwise")
@pytest.mark.parametrize("kind", PINNED)
def test_views_are_bit_for_bit_those_of_earlier_versions(kind):
    rng = np.random.default_rng(4)
    crops = np.kron(rng.integers(0, 256, (64, 4, 4, 3)), np.ones((1, 3, 3, 1))).astype(np.uint8)
    draws = tf.constant(np.stack([view_draws(6, i, 1)[CROP_DRAWS:] for i in range(64)]))
    views = augment_batch(crops, draws, NAMED[kind]).numpy()
    assert hashlib.sha256(views.tobytes()).hexdigest() == PINNED[kind]


def description(seed):
    """A random `View` in which every operation occurs."""
    rng = np.random.default_rng(seed)
    strengths = rng.uniform(0.1, 1, 4) * [1, 1, 1, 0.5 * rng.integers(2)]
    names = ("brightness", "contrast", "saturation", "hue")
    return View(
        jitter=Jitter(probability=rng.uniform(0.3, 1), **dict(zip(names, strengths, strict=True))),
        gray=rng.uniform(0.2, 0.8),
        blur=Blur(probability=rng.uniform(0.3, 1), sigma=np.sort(rng.uniform(0, 5, 2)).tolist()),
        solarize=Solarize(probability=rng.uniform(0.3, 1), threshold=rng.integers(256).item()),
        order=rng.permutation(["jitter", "gray", "blur", "solarize"]).tolist(),
        horizontal_flip=rng.uniform(),
        vertical_flip=rng.uniform(),
        quarter_turns=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_batch_at_once_is_every_image_by_itself_whatever_is_described(seed):
    view = description(seed)
    draws = np.stack([view_draws(seed, i, 0)[CROP_DRAWS:] for i in range(96)])
    crops = np.random.default_rng(seed).integers(0, 256, (96, 12, 12, 3), np.uint8)
    one_by_one = tf.function(lambda crop, draw: augment(crop, draw, view), autograph=False)
    expected = [one_by_one(*pair).numpy() for pair in zip(crops, draws, strict=True)]
    np.testing.assert_array_equal(augment_batch(crops, tf.constant(draws), view), expected)


@pytest.mark.parametrize("kind", ["v1", "v2", "demo"])
def test_a_batch_at_once_is_every_image_by_itself(kind):
    """Many draws, so that every order of the jitter and every mixture of operations occurs."""
    draws = np.stack([view_draws(3, i, 0)[CROP_DRAWS:] for i in range(128)])
    assert len({tuple(np.argsort(one[5:9])) for one in draws}) == 24
    crops = np.random.default_rng(1).integers(0, 256, (128, 12, 10, 3), np.uint8)
    one_by_one = tf.function(lambda crop, draw: augment(crop, draw, NAMED[kind]), autograph=False)
    expected = [one_by_one(*pair).numpy() for pair in zip(crops, draws, strict=True)]
    np.testing.assert_array_equal(augment_batch(crops, tf.constant(draws), NAMED[kind]), expected)


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_crops_of_a_batch_are_those_of_pillow(name):
    """Enlarged and reduced, at the edges and inside; products end a level off at ties only."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (5, 40, 50, 3), np.uint8)
    windows = tf.constant(
        [[0, 0, 40, 50], [3, 4, 36, 45], [39, 49, 1, 1], [10, 0, 7, 9], [5, 6, 16, 16]]
    )
    ours = resized_crops_batch(images, windows, 16, name).numpy().astype(int)
    for image, window, crops in zip(images, tf.unstack(windows), ours, strict=True):
        pillow = resized_crops(tf.constant(image), window[None], 16, [name])[0].numpy()
        assert np.abs(crops - pillow).max() <= 1
        assert (crops != pillow).mean() <= 0.02
