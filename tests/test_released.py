"""Released files by name: from a server on loopback, from the cache, and what is refused."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from safetensors.numpy import save

from moco_tf.commands.cli import main
from moco_tf.convert import released
from moco_tf.convert.command import convert
from moco_tf.convert.reading import read_source
from moco_tf.convert.released import RELEASED, SERVER, meant_name, url_of
from moco_tf.convert.state_dict import to_state_dict
from moco_tf.errors import InputError
from moco_tf.runs.encoders import load_encoder
from moco_tf.runs.snapshot import QUERY_ENCODER, load_snapshot

NAME = "moco-v2-800ep"
PATH = "/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar"


@pytest.fixture(scope="module")
def files(small_run):
    """A tiny encoder under the names of the releases of v2 and v3, by path on the server."""
    arrays = to_state_dict(load_snapshot(small_run, warn=pytest.fail).state, QUERY_ENCODER, steps=7)
    trunk = {name: array for name, array in arrays.items() if not name.startswith("fc.")}
    v2 = {f"module.encoder_q.{name}": array for name, array in arrays.items()}
    v3 = {f"module.momentum_encoder.{name}": np.asarray(array + 1) for name, array in trunk.items()}
    v3 |= {f"module.base_encoder.{name}": array for name, array in trunk.items()}
    for name, shape in {"fc.0.weight": (9, 32), "fc.1.weight": (9,), "fc.3.weight": (9, 9)}.items():
        v3[f"module.base_encoder.{name}"] = np.zeros(shape, np.float32)
    v3["module.predictor.0.weight"] = np.zeros((9, 9), np.float32)
    linear = {f"module.{name}": array for name, array in trunk.items()}
    linear |= {"module.fc.weight": np.zeros((10, 32), np.float32)}
    linear |= {"module.fc.bias": np.zeros(10, np.float32)}
    of = {NAME: v2, "moco-v3-r50-100ep": v3, "moco-v3-r50-100ep-linear": linear}
    return {f"/{RELEASED[name].place}": save(content) for name, content in of.items()}


@pytest.fixture
def server(file_server, files, tmp_path, monkeypatch):
    """The server, as the environment names it; the checksum is that of the tiny file.

    The files are safetensors, which needs no torch.
    """
    file_server.files |= files
    monkeypatch.setenv("MOCO_TF_WEIGHTS_URL", f"{file_server.url}/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch = SimpleNamespace(installed=lambda: True)
    monkeypatch.setattr("moco_tf.convert.released.torch_process", torch)
    monkeypatch.setattr("moco_tf.files.download.PAUSE", 0.0)
    monkeypatch.setitem(RELEASED, NAME, with_md5(hashlib.md5(files[PATH]).hexdigest()[:8]))
    return file_server


def with_md5(digits):
    return released._v1_v2("moco_v2_800ep", digits)


def cached(tmp_path, name=NAME):
    return tmp_path / "cache" / "moco-tf" / "released" / f"{name}.pth.tar"


def test_what_is_released_and_where(monkeypatch):
    monkeypatch.delenv("MOCO_TF_WEIGHTS_URL", raising=False)
    assert SERVER == "https://dl.fbaipublicfiles.com"
    assert url_of(NAME) == SERVER + PATH
    assert (
        url_of("moco-v3-r50-1000ep-linear") == SERVER + "/moco-v3/r-50-1000ep/linear-1000ep.pth.tar"
    )
    published = {name: file.md5 for name, file in RELEASED.items() if file.md5}
    assert published == {
        "moco-v1-200ep": "b251726a",
        "moco-v2-200ep": "59fd9945",
        "moco-v2-800ep": "a04e12f8",
    }


@pytest.mark.slow
def test_by_name_it_is_what_the_file_itself_gives(server, files, tmp_path, capsys):
    local, target, again = (tmp_path / f"{n}.safetensors" for n in ("local", "named", "again"))
    local.write_bytes(files[PATH])
    assert main(["convert", NAME, str(target), "--image-size", "16"]) == 0
    said = capsys.readouterr()
    assert "licence CC-BY-NC 4.0, no commercial use" in said.out
    assert f"downloading {server.url}{PATH}" in said.err
    assert cached(tmp_path).read_bytes() == files[PATH]
    snapshot = load_snapshot(target, warn=pytest.fail)
    other = read_source(local, image_size=16, warn=pytest.fail).snapshot
    assert snapshot.config == other.config
    for name, array in other.state.items():
        np.testing.assert_array_equal(snapshot.state[name], array, strict=True)
    assert snapshot.provenance["source"] == server.url + PATH
    assert snapshot.provenance["licence"] == "CC-BY-NC 4.0"
    server.stop()  # from now on there is no network
    assert convert(NAME, again, to="moco-tf", image_size=16, warn=lambda _: None)["equal"]
    assert load_snapshot(again, warn=pytest.fail).provenance == snapshot.provenance


def test_an_interrupted_download_goes_on(server, files, tmp_path):
    server.cuts = [100_000]
    path = released.fetch(NAME, lambda _: None)
    assert path == cached(tmp_path) and path.read_bytes() == files[PATH]
    assert server.asked == [(PATH, None), (PATH, f"bytes={2**16}-")]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RELEASED, NAME, with_md5("00000000"))
    assert main(["convert", NAME, str(tmp_path / "x.safetensors")]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "moco-tf:" in one]
    assert "MD5 begins with" in line and "facebookresearch/moco gives 00000000" in line
    assert not cached(tmp_path).exists() and not (tmp_path / "x.safetensors").exists()


def test_a_damaged_file_in_the_cache_is_fetched_again(server, files, tmp_path):
    cached(tmp_path).parent.mkdir(parents=True)
    cached(tmp_path).write_bytes(files[PATH][:-1])
    said = []
    released.fetch(NAME, said.append)
    assert "is damaged" in said[0] and cached(tmp_path).read_bytes() == files[PATH]


@pytest.mark.parametrize("name", ["moco-v3-r50-100ep", "moco-v3-r50-100ep-linear"])
def test_of_v3_the_backbone_is_taken_and_the_checksum_told(server, files, tmp_path, name):
    said = []
    result = convert(name, tmp_path / "x.safetensors", to="moco-tf", warn=said.append)
    assert result["equal"] and result["head"] == "none"
    ours = load_snapshot(tmp_path / "x.safetensors", warn=pytest.fail).state
    v2 = read_bytes_of(files[PATH], tmp_path)
    for key, array in ours.items():
        np.testing.assert_array_equal(array, v2[key])
    digest = hashlib.sha256(files[f"/{RELEASED[name].place}"]).hexdigest()
    assert said[-1].endswith(
        f"no checksum is published of {name}; that of what came is SHA-256 {digest}"
    )


def read_bytes_of(data, folder):
    path = folder / "file.safetensors"
    path.write_bytes(data)
    return read_source(path, warn=pytest.fail).snapshot.state


@pytest.mark.slow
def test_to_keras_in_one_command(server, files, tmp_path, capsys):
    target = tmp_path / "encoder.keras"
    assert main(["convert", NAME, str(target), "--image-size", "16", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["source"], result["target"], result["to"]) == (NAME, str(target), "keras")
    assert result["equal"] and result["exported"]["run"] == NAME
    card = (tmp_path / "encoder.keras.md").read_text(encoding="utf-8")
    assert "licence of the weights: CC-BY-NC 4.0" in card
    assert f"from {NAME}\n" in card and "tmp" not in card.replace(str(tmp_path), "")
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    file = tmp_path / "same.safetensors"
    convert(NAME, file, to="moco-tf", image_size=16, warn=lambda _: None)
    encoder, _, _ = load_encoder(file, warn=pytest.fail)
    ours = keras.saving.load_model(target)(images, training=False)
    np.testing.assert_allclose(ours, encoder.backbone(images, training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["moco_v2_800ep", "x.safetensors"], "Did you mean moco-v2-800ep"),
        (["moco-v2-80ep", "x.safetensors"], "Did you mean moco-v2-800ep"),
        (["moco-v3-vit-s-30ep", "x.safetensors"], "Did you mean moco-v3-vit-s-300ep"),
        ([NAME, "x.pth"], "Give --to official, torchvision or timm with .pth"),
        ([NAME, "x"], r"another suffix: .safetensors (moco-tf), .keras (keras), .pkl (detectron2)"),
        ([NAME, "x.safetensors", "--to", "keras"], "must end in .keras"),
        ([NAME, "x.keras", "--to", "moco-tf"], "must end in .safetensors"),
        ([NAME, "no/x.keras"], "there is no folder no"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_fetched(
    server, arguments, message, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert server.asked == []


def test_without_torch_nothing_is_downloaded(server, monkeypatch, tmp_path):
    torch = SimpleNamespace(installed=lambda: False)
    monkeypatch.setattr("moco_tf.convert.released.torch_process", torch)
    with pytest.raises(
        InputError, match=r"reading moco-v2-800ep needs an extra: pip install 'moco-tf\[torch\]'"
    ):
        convert(NAME, tmp_path / "x.safetensors", to="moco-tf")
    assert server.asked == []


def test_a_file_of_that_name_wins(server, small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_run, tmp_path / NAME)
    assert convert(NAME, tmp_path / "x.safetensors", to="moco-tf")["source_format"] == "run"
    assert server.asked == []


def test_other_names_get_no_advice():
    assert meant_name("runs/mine") == "" and meant_name("encoder.pth") == ""
