"""The model card as the Hugging Face Hub reads it."""

import dataclasses

import pytest

from moco_tf.convert.released import LICENCE
from moco_tf.exporting.card import card
from moco_tf.exporting.targets import FORMATS
from moco_tf.recipes import RECIPES
from moco_tf.runs.snapshot import EncoderCheckpoint

SNAPSHOT = EncoderCheckpoint({}, RECIPES["moco-v2"].config, 7, {"source": "x", "format": "run"})
RESULT = {
    **SNAPSHOT.config.encoder_fields,
    **{"run": "runs/a", "features": "pooled", "with_head": False, "preprocessing": False},
    **{"image_size": 224, "normalization": "imagenet", "any_size": False, "dim": 128},
    **{"output": 2048, "parameters": 10, "bytes": 40, "images": 16, "images_of": "shapes"},
    **{"largest_error": 1e-7, "tolerance": 1e-5},
}


def read(tmp_path, to="keras", snapshot=SNAPSHOT, **changes):
    """The card's metadata by the Hub's library, and its text."""
    repocard = pytest.importorskip("huggingface_hub")
    result = RESULT | {"format": to, "out": "encoder" + FORMATS[to].suffix} | changes
    path = tmp_path / "README.md"
    path.write_text(card(result, snapshot, tmp_path, data_licence=None), encoding="utf-8")
    loaded = repocard.ModelCard.load(path)
    assert str(loaded) == path.read_text()  # what the Hub writes back is what was written
    return loaded.data.to_dict(), loaded.text


@pytest.mark.parametrize("to", ["keras", "savedmodel"])
def test_the_hub_reads_what_the_card_says(to, tmp_path):
    data, text = read(tmp_path, to)
    assert data.get("library_name") == ("keras" if to == "keras" else None)
    assert data["pipeline_tag"] == "image-feature-extraction"
    assert data["tags"] == ["moco", "self-supervised-learning", "computer-vision", to]
    assert "license" not in data
    assert text.lstrip().startswith("# encoder")


def test_a_classifier_and_released_weights_are_filed_as_such(tmp_path):
    released = dataclasses.replace(SNAPSHOT, provenance={**SNAPSHOT.provenance, "licence": LICENCE})
    data, _ = read(tmp_path, snapshot=released, features="logits", with_head=True, head="linear")
    assert data["license"] == "cc-by-nc-4.0"
    assert data["pipeline_tag"] == "image-classification"


def test_a_licence_that_is_no_text_is_left_out(tmp_path):
    odd = dataclasses.replace(SNAPSHOT, provenance={**SNAPSHOT.provenance, "licence": ["x"]})
    assert "license" not in read(tmp_path, snapshot=odd)[0]
