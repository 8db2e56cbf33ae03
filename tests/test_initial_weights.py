"""The weights that a run begins with: what is taken of them, what is refused."""

import numpy as np
import pytest

from moco_tf.config import Config
from moco_tf.errors import InputError
from moco_tf.runs import folder as run_folder
from moco_tf.runs import snapshot as encoder_file
from moco_tf.runs.checkpoint_file import digest
from moco_tf.runs.initial_weights import read_initial_weights
from moco_tf.runs.snapshot import CONVERTED, EncoderCheckpoint

FIELDS = {"encoder": "resnet18", "width": 4, "stem": "small", "dim": 8, "batch_size": 64}
BACKBONE = {"query_encoder/conv1/kernel": np.arange(4.0), "query_encoder/bn1/gamma": np.ones(3)}
HEAD = {"query_encoder/fc.0/kernel": np.ones(2), "query_encoder/fc.2/bias": np.ones(1)}


def save(path, arrays=BACKBONE | HEAD, provenance=None, **fields):
    config = Config.model_validate(FIELDS | {"head": "mlp"} | fields)
    if config.head == "none":
        config = config.model_copy(update={"recipe": CONVERTED})
    others = {"key_encoder/conv1/kernel": np.zeros(1), "queue": np.zeros(2)}
    path.write_bytes(
        encoder_file.to_bytes(EncoderCheckpoint(arrays | others, config, 7, provenance or {}))
    )
    return str(path)


def read(file, tmp_path, **fields):
    config = Config.model_validate(FIELDS | {"head": "mlp", "init": file} | fields)
    return read_initial_weights(config, tmp_path / "run", warn=pytest.fail)


def test_backbone_and_head_and_their_digest(tmp_path):
    file = save(tmp_path / "a.safetensors")
    weights = read(file, tmp_path, image_size=64, queue_size=100, temperature=0.2)
    assert weights.arrays.keys() == (BACKBONE | HEAD).keys()
    assert weights.sha256 == digest(BACKBONE | HEAD)
    assert weights.line == (
        f"weights of {file}, step 7: backbone and head; queue and optimizer are new"
    )
    assert read(file, tmp_path, init_sha256=weights.sha256).sha256 == weights.sha256
    with pytest.raises(
        InputError, match=r"other weights than the run began with.*recorded is 0000"
    ):
        read(file, tmp_path, init_sha256="0" * 64)


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({"dim": 16}, "mlp to 16 there, mlp to 8 now"),
        ({"head": "linear"}, "linear to 8 there, mlp to 8 now"),
        ({"head": "none", "arrays": BACKBONE}, "there is none there"),
        ({"provenance": {"format": "finetune"}}, "there it is a classifier"),
    ],
)
def test_a_head_that_does_not_fit_is_left_and_the_line_says_why(tmp_path, there, why):
    weights = read(save(tmp_path / "a.safetensors", **there), tmp_path)
    assert weights.arrays.keys() == BACKBONE.keys()
    assert f"step 7: backbone; the head is new ({why}); queue" in weights.line


def test_another_normalization_is_told(tmp_path):
    line = read(save(tmp_path / "a.safetensors", normalization="cifar10"), tmp_path).line
    assert line.endswith("; they were trained with normalization cifar10")


def test_what_is_refused(tmp_path):
    file = save(tmp_path / "a.safetensors", encoder="resnet50", width=8)
    with pytest.raises(
        InputError,
        match=r"encoder \(resnet50 there, resnet18 now\), width \(8 there, 4 now\)\. "
        r"Use --encoder resnet50 --width 8\.$",
    ):
        read(file, tmp_path)
    with pytest.raises(InputError, match="is not a run folder"):
        read(str(tmp_path / "absent"), tmp_path)
    broken = save(tmp_path / "b.safetensors", {"query_encoder/fc/bias": np.array([np.nan])})
    with pytest.raises(InputError, match="not finite in query_encoder/fc/bias"):
        read(broken, tmp_path)
    run = tmp_path / "run"
    run_folder.claim(run, Config())
    with pytest.raises(InputError, match=r"is the run's own folder. Raise --epochs"):
        read(f"{tmp_path}/./run", tmp_path)


class Held:
    def __init__(self, shape):
        self.shape, self.dtype, self.value = shape, self, None
        self.as_numpy_dtype = np.float64

    def assign(self, value):
        self.value = value


def test_both_encoders_get_them_and_nothing_else_does(tmp_path):
    weights = read(save(tmp_path / "a.safetensors", dim=16), tmp_path)
    variables = {
        f"{encoder}/{name.partition('/')[2]}": Held(array.shape)
        for encoder in ("query_encoder", "key_encoder")
        for name, array in (BACKBONE | HEAD).items()
    } | {"queue": Held((2,)), "momentum/conv1/kernel": Held((4,))}
    for place in ("", "_1"):  # of two layers of Dropout in one block: the run's own seeds
        variables[f"query_encoder/block/seed_generator_state{place}"] = Held((2,))
    weights.assign(variables)
    given = {name for name, variable in variables.items() if variable.value is not None}
    layers = ("conv1/kernel", "bn1/gamma")
    assert given == {f"{e}/{n}" for e in ("query_encoder", "key_encoder") for n in layers}
    np.testing.assert_array_equal(variables["key_encoder/conv1/kernel"].value, np.arange(4.0))
    assert variables["key_encoder/conv1/kernel"].value.dtype == np.float64
    variables["query_encoder/conv1/kernel"].shape = (5,)
    with pytest.raises(InputError, match=r"conv1/kernel is of shape \(4,\), expected \(5,\)"):
        weights.assign(variables)
