"""Methods that are compiled once for all runs of the same settings, and begin anew for each."""

from functools import partial

import moco_tf.evaluate.finetune
import moco_tf.pretraining
from moco_tf.evaluate import features
from moco_tf.models import ENCODERS
from moco_tf.runs import checkpoint_file, encoders, snapshot, variables

# What a compiled step does not depend on.
FREE = {
    "checkpoint_every", "data", "epochs", "init", "init_sha256", "knn_every", "learning_rate",
    "log_every", "max_steps", "run_dir",
}  # fmt: skip
FREE_TO_FINETUNE = {
    "checkpoint_every", "data", "epochs", "label_fraction", "log_every", "lr", "head_lr", "run",
    "run_dir",
}  # fmt: skip
_METHODS, _OF_METHOD, _ENCODERS, _EMBEDDINGS = {}, {}, {}, {}
_build_method = moco_tf.pretraining.build_method
_build_network = moco_tf.evaluate.finetune.build_network


def _once(build, strategy, *settings):
    """What `build` returns, in its first state; on one device it may have served before."""
    if strategy.num_replicas_in_sync > 1:
        return build()
    if settings not in _METHODS:
        method = build()
        _METHODS[settings] = method, variables.arrays_of(method.state())
    method, first = _METHODS[settings]
    variables.assign(method.state(), first)
    return method


def forget():
    """Frees the memory of all of them."""
    for kept in (_METHODS, _OF_METHOD, _EMBEDDINGS, _ENCODERS):
        kept.clear()


def build_method(config, strategy, train):
    """In place of `moco_tf.building.build_method`."""
    settings = (
        config.model_dump_json(exclude=FREE),
        str(ENCODERS.get(config.encoder)),
        train and train.identity,
    )
    return _once(partial(_build_method, config, strategy, train), strategy, *settings)


def build_network(config, start, classes, strategy):
    """In place of `moco_tf.evaluate.finetune.build_network`."""
    settings = (
        config.model_dump_json(exclude=FREE_TO_FINETUNE),
        start.config.model_dump_json(),
        str(ENCODERS.get(start.config.encoder)),
        checkpoint_file.digest(start.state),
        classes,
    )
    return _once(partial(_build_network, config, start, classes, strategy), strategy, *settings)


def load_encoder(run, *, warn):
    """In place of `moco_tf.runs.encoders.load_encoder`, for what does not train the encoder."""
    found = snapshot.load_snapshot(run, warn=warn)
    key = *_kind(found.config), checkpoint_file.digest(found.state)
    if key not in _ENCODERS:
        _ENCODERS[key] = encoders.encoder_of(found, run)
    return _ENCODERS[key], found.config, found.step


def untrained_encoder(config):
    """In place of `moco_tf.runs.encoders.untrained_encoder`, likewise."""
    if _kind(config) not in _ENCODERS:
        _ENCODERS[_kind(config)] = encoders.untrained_encoder(config)
    return _ENCODERS[_kind(config)]


def _kind(config):
    return config.model_dump_json(), str(ENCODERS[config.encoder])


def embedding(encoder, **settings):
    """In place of `moco_tf.evaluate.features.embedding`."""
    key = id(encoder), *sorted(settings.items())
    if key not in _EMBEDDINGS:
        _EMBEDDINGS[key] = features.embedding(encoder, **settings), encoder  # or its id is reused
    return _EMBEDDINGS[key][0]


def of_method(module, name):
    """Replaces a module's function of (config, method): called once for a method."""
    original = getattr(module, name)

    def once(config, method):
        if method not in [kept for kept, _ in _METHODS.values()]:
            return original(config, method)
        if (name, method) not in _OF_METHOD:
            _OF_METHOD[name, method] = original(config, method)
        return _OF_METHOD[name, method]

    return once
