"""Every format on sixteen photos and a whole ResNet-50: 224 pixels, as trained on ImageNet."""

import tarfile

import numpy as np
import pytest
from conftest import ROOT
from support.encoder_files import DEEP, PLACES, need, save

from moco_tf.commands.export import FORMATS
from moco_tf.exporting.command import export

ARCHIVE = ROOT.parent / "shared" / "data" / "imagenet-sample.tar"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    if not ARCHIVE.is_file():
        pytest.skip(f"photos not found: no file {ARCHIVE}")
    folder = tmp_path_factory.mktemp("photos")
    with tarfile.open(ARCHIVE) as archive:
        members = [m for m in archive.getmembers() if m.name.endswith(".JPEG")]
        for place in np.linspace(0, len(members) - 1, 16).astype(int):
            archive.extract(members[place], folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    sizes = {"width": 64, "image_size": 224, "dim": 128}
    return save(tmp_path_factory.mktemp("resnet50") / "run.safetensors", **DEEP | sizes)


@pytest.mark.long
@pytest.mark.parametrize("preprocessing", [False, True])
@pytest.mark.parametrize("to", FORMATS)
def test_on_photos_every_format_equals_the_encoder(photos, resnet50, tmp_path, to, preprocessing):
    need(to)
    settings = {"data": str(photos), "with_preprocessing": preprocessing}
    result = export(resnet50, tmp_path / PLACES[to], to=to, **settings)
    print(to, preprocessing, result["largest_error"])
    assert (result["images"], result["output"]) == (16, 2048)
    assert result["equal"] and result["largest_error"] < 1e-5
