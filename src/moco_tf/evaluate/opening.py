"""What a run says of itself before it trains."""

import tensorflow as tf

from moco_tf.config import Config
from moco_tf.data.found import found_lines
from moco_tf.data.sources import Images
from moco_tf.names.encoder import ALL
from moco_tf.training.advice import Suggestion, suggestions
from moco_tf.training.facts import known_facts

OTHER_IMAGES = (
    "the training images are not those of before: from here on the run is not what it would have "
    "been"
)


def describe(
    config: Config,
    train: Images,
    test: Images | None,
    replicas: int,
    first_rate: float,
    epoch_steps: int,
) -> str:
    """Returns one line on the run: network, images, batch, devices, learning rate, steps."""
    total_steps = config.epochs * epoch_steps
    scaling = (
        f"{config.learning_rate:g} x {config.batch_size}/256"
        if config.lr_scaling == "linear"
        else "absolute"
    )
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU device"
    stop = "" if config.max_steps is None else f", up to step {min(config.max_steps, total_steps)}"
    groups = "as one group" if config.group_size == ALL else f"in groups of {config.group_size}"
    return (
        f"{config.recipe}: {config.encoder} on {config.data}, {train.count} images"
        f"{f' + {test.count} test' if test else ''}; batch {config.batch_size} {groups} "
        f"on {replicas} {kind}(s); learning rate "
        f"{config.scaled_learning_rate:g} ({scaling}), first {first_rate:g}; "
        f"{epoch_steps} steps an epoch, {total_steps} in all{stop}"
    )


def advice(config: Config, train: Images, replicas: int) -> list[Suggestion]:
    """Returns what is off in the config for these images on this machine."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    return suggestions(config, known_facts(config, train, devices=replicas, gpus=gpus))


def notes(config: Config, train: Images, test: Images | None) -> list[str]:
    """Returns lines on the images: found, left out, without a picture, enlarged."""
    lines = found_lines(train, test)
    if test and test.why_unlabelled:
        lines.append(f"{test.why_unlabelled}: kNN uses held-out training images")
    small = train.smaller_than(config.image_size)
    if len(small):
        first = f", the first is {train.files[small[0]]}" if train.files else ""
        lines.append(f"{len(small)} images are smaller than the crop and are enlarged{first}")
    return lines
