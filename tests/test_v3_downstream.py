"""What comes after a ResNet of MoCo v3: taken elsewhere, probed, fine-tuned, converted."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.encoder_files import PLACES, need
from support.labelled_run import CLASSES, SIDE, make_v3_run, save_npz
from support.recorded import recipe
from support.runs import TINY_V3, config, rows

import moco_tf
from moco_tf.commands.export import FORMATS
from moco_tf.convert.command import convert
from moco_tf.evaluate.probe_config import official_probe
from moco_tf.models.torch_names import to_torch, torch_name
from moco_tf.runs.encoders import load_encoder, untrained_encoder
from moco_tf.runs.snapshot import peek

pytestmark = pytest.mark.usefixtures("shallow", "compiled_once")


@pytest.fixture(scope="module")
def run(shallow, tmp_path_factory):
    """An untrained run, and its data with test images."""
    data = save_npz(tmp_path_factory.mktemp("data") / "data.npz")
    folder = tmp_path_factory.mktemp("runs") / "resnet"
    make_v3_run(folder, data, "resnet", image_size=SIDE)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_it_is_taken_elsewhere_with_and_without_its_projector(run, tmp_path, to):
    need(to)
    for with_head, dimensions in ((False, 32), (True, TINY_V3["dim"])):
        out = tmp_path / str(with_head) / PLACES[to]
        out.parent.mkdir()
        result = moco_tf.export(run, out, format=to, with_head=with_head)
        assert result["equal"] and result["output"] == dimensions


@pytest.mark.slow
def test_it_is_probed_by_v3s_protocol_and_fine_tuned(run):
    probed = moco_tf.probe(run, epochs=4, log_every=1, report=False)
    rates = [0.1 * 20 / 256 * 0.5 * (1 + np.cos(np.pi * epoch / 4)) for epoch in range(4)]
    assert [row["lr"] for row in rows(run / "probe")] == pytest.approx(rates)
    assert "0.0078125 (0.1 x 20/256), cosine per epoch over 4 epochs" in probed["protocol"]
    tuned = moco_tf.finetune(run, epochs=6, batch_size=8, group_size=4, report=False)
    assert tuned["top1"] > 60  # by chance 33
    plain = moco_tf.load_encoder(run / "finetune" / "encoder.safetensors", head=True)
    assert plain.output_shape == (None, CLASSES)
    pooled = moco_tf.load_encoder(run)
    ours, _, _ = load_encoder(run, warn=print)
    images = np.random.default_rng(1).standard_normal((4, SIDE, SIDE, 3)).astype(np.float32)
    wanted = ours.backbone(images, training=False).numpy()
    np.testing.assert_allclose(pooled(images, training=False), wanted, rtol=0, atol=1e-5)


def test_an_official_resnet_is_one_of_v3_for_the_probe(tmp_path):
    backbone = untrained_encoder(config("x", "x", "moco-v2", {}, encoder="resnet18")).backbone
    arrays = {
        torch_name(v.path): recipe(torch_name(v.path), to_torch(v.numpy()).shape)
        for v in backbone.variables
    }
    heads = {f"fc.{n}.weight": np.ones((4, 4), np.float32) for n in (0, 3)}
    whole = {f"module.base_encoder.{n}": a for n, a in (arrays | heads).items()}
    whole |= {f"module.momentum_encoder.{n}": a + 1 for n, a in (arrays | heads).items()}
    save_file(
        whole | {"module.predictor.0.weight": heads["fc.0.weight"]}, tmp_path / "r.safetensors"
    )
    result = convert(
        tmp_path / "r.safetensors", tmp_path / "ours.safetensors", to="moco-tf", warn=print
    )
    assert result["equal"] and result["arrays_equal"] and result["head"] == "none"
    found = peek(tmp_path / "ours.safetensors")
    assert (found.method, found.encoder, found.image_size) == ("moco-v3", "resnet18", 224)
    assert official_probe(found).rates == pytest.approx([0.4])
