"""The model card: what an export is, takes and gives, and what is known of it, on one page."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from moco_tf.config import Config, describe_encoder
from moco_tf.data.pipeline import NORMALIZATIONS
from moco_tf.exporting.results import known_results
from moco_tf.runs import folder as run_folder
from moco_tf.runs.snapshot import CONVERTED, EncoderCheckpoint

_PACKAGES = {"onnx": ("onnx", "onnxruntime"), "litert": ("ai-edge-litert",)}
_LOADING = {
    "keras": (
        'import keras\n\nmodel = keras.saving.load_model("{out}")\n'
        "features = model(images, training=False)"
    ),
    "savedmodel": (
        'import tensorflow as tf\n\nmodel = tf.saved_model.load("{out}")\n'
        "features = model.serve(images)"
    ),
    "onnx": (
        "import onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("{out}")\n'
        '(features,) = session.run(["features"], {{"images": images}})'
    ),
    "litert": (
        "import ai_edge_litert.interpreter\n\n"
        'model = ai_edge_litert.interpreter.Interpreter(model_path="{out}")\n'
        'model.resize_tensor_input(model.get_input_details()[0]["index"], images.shape)\n'
        "model.allocate_tensors()\n"
        'model.set_tensor(model.get_input_details()[0]["index"], images)\n'
        "model.invoke()\n"
        'features = model.get_tensor(model.get_output_details()[0]["index"])'
    ),
}


_LICENCES = {"CC-BY-NC 4.0": "cc-by-nc-4.0"}  # of weights -> Hugging Face's identifier


def card(
    result: dict[str, Any], snapshot: EncoderCheckpoint, run: Path, *, data_licence: str | None
) -> str:
    """Returns the card as Markdown, below the metadata that the Hugging Face Hub reads.

    Args:
        result: what `export` returns.
        snapshot: the encoder, its config and its origin.
        data_licence: of the data, in the user's words.
    """
    results = known_results(run, snapshot.config, snapshot.step) or ["None is known to the run."]
    sections = {
        "Encoder": _encoder(result),
        "Input": [input_text(result)],
        "Output": _output(result, snapshot),
        "Training": _training(snapshot, data_licence),
        "Results": results,
        "This export": _check(result),
    }
    body = "\n".join(
        f"\n## {title}\n\n" + "\n".join(f"- {line}" for line in lines)
        for title, lines in sections.items()
    )
    loading = _LOADING[result["format"]].format(out=Path(result["out"]).name)
    front = yaml.safe_dump(_hub_metadata(result, snapshot), sort_keys=False)
    title = f"# {Path(result['out']).name}"
    return f"---\n{front}---\n\n{title}\n{body}\n\n```python\n{loading}\n```\n"


def input_text(result: dict[str, Any]) -> str:
    """What images the export takes, in full sentences."""
    side, resized = result["image_size"], round(result["image_size"] * 256 / 224)
    mean, std = NORMALIZATIONS[result["normalization"]]
    numbers = f"(pixel / 255 - mean) / std with mean {list(mean)} and std {list(std)}, RGB"
    if result["normalization"] == "pixels":
        numbers = "the pixels as they are, 0 to 255, RGB; the model has its own preprocessing"
    cut = (
        f"an image of {side} x {side} is taken whole; another is resized to a short side of "
        f"{resized} (bilinear, antialiased) and its centre of {side} x {side} is cut out"
    )
    if result["any_size"]:
        return (
            f"uint8 [batch, height, width, 3], RGB, 0 to 255, of any size (one size a batch). "
            f"Inside, {cut}; then {numbers}."
        )
    if result["preprocessing"]:
        return (
            f"uint8 [batch, {side}, {side}, 3], RGB, 0 to 255. Inside: {numbers}. Sizes are for "
            f"the caller: as this encoder was evaluated, {cut}."
        )
    return (
        f"float32 [batch, {side}, {side}, 3], channels last: {numbers}. As this encoder was "
        f"evaluated, before that {cut}."
    )


def _hub_metadata(result: dict[str, Any], snapshot: EncoderCheckpoint) -> dict[str, Any]:
    """What the Hub files a model by. It knows no licence of weights that were trained here."""
    logits = result["features"] == "logits"
    told = {
        "library_name": "keras" if result["format"] == "keras" else None,
        "license": _LICENCES.get(str(snapshot.provenance.get("licence"))),
        "pipeline_tag": "image-classification" if logits else "image-feature-extraction",
        "tags": ["moco", "self-supervised-learning", "computer-vision", result["format"]],
    }
    return {name: value for name, value in told.items() if value}


def _encoder(result: dict[str, Any]) -> list[str]:
    head = f"{result['head']}, to {result['dim']}" if result["with_head"] else "left out"
    return [
        f"{describe_encoder(result)}, images of "
        f"{result['image_size']} x {result['image_size']}; {result['parameters']} numbers "
        f"(float32), {result['bytes']} bytes; head: {head}"
    ]


def _output(result: dict[str, Any], snapshot: EncoderCheckpoint) -> list[str]:
    kinds = {
        "pooled": "pooled features, before the head (not divided by their length)",
        "projection": "the projection, what pre-training compares (not divided by its length)",
        "logits": "logits of the fine-tuned classifier",
    }
    lines = [f"float32 [batch, {result['output']}]: {kinds[result['features']]}"]
    names = snapshot.provenance.get("class_names") if result["features"] == "logits" else None
    return lines + ([f"classes in order: {', '.join(map(str, names))}"] if names else [])


def _training(snapshot: EncoderCheckpoint, data_licence: str | None) -> list[str]:
    config, origin = snapshot.config, snapshot.provenance
    licence = f"licence of the data: {' '.join((data_licence or 'not stated').split())}"
    came = f"{origin.get('source', '?')} ({origin.get('format', '?')})"
    at = f"step {snapshot.step}, epoch {origin.get('epoch', '?')}"
    known = config.recipe != CONVERTED
    method = f"{_recipe(config)} on {config.data}; seed {config.seed}"
    if origin.get("format") == "finetune":
        before = f"from a run of {method}" if known else "from a converted encoder"
        if origin.get("from_scratch"):
            before = "not pre-trained"
        return [before, f"{origin.get('protocol')}", at, licence]
    if not known:
        weights = [f"licence of the weights: {origin['licence']}"] if "licence" in origin else []
        return [f"recipe and data not known: converted from {came}", *weights, at, licence]
    return [f"recipe {method}", f"{at} of {config.epochs}; from {came}", licence]


def _recipe(config: Config) -> str:
    return (
        f"{config.recipe} (MoCo: queue {config.queue_size}, temperature {config.temperature:g}, "
        f"key momentum {config.key_momentum:g}, augmentation {_augmentation(config)}, batch "
        f"{config.batch_size})"
    )


def _augmentation(config: Config) -> str:
    named = isinstance(config.augmentation, str)
    return config.augment_function or (str(config.augmentation) if named else "of its own")


def _check(result: dict[str, Any]) -> list[str]:
    versions = run_folder.versions()
    for package in _PACKAGES.get(result["format"], ()):
        versions[package] = metadata.version(package)
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        f"made by moco-tf export --format {result['format']} from {result['run']}",
        f"compared with the encoder on {result['images']} images of {result['images_of']}: "
        f"largest error {result['largest_error']:.2g} of the largest feature (tolerance "
        f"{result['tolerance']:g})",
        shown,
    ]
