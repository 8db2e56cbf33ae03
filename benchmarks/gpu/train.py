"""The CIFAR-10 demo's training under JAX, from images on the device: our step, our augmentation."""

import os
import tarfile
import time
from io import BytesIO
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from program import drawn, load, stepping


def train(options, record) -> None:
    """Trains on from the checkpoint, if there is one, until the epochs or the seconds are over.

    Which images, draws and keys' order a step takes is a function of the seed and the step.
    """
    began = time.perf_counter()
    call, facts = load(options.folder, "demo")
    images = read_images(options.folder, facts["settings"]["images"])
    state, step = opened(options, facts)
    knn = knn_of(options.folder, facts, images)
    pixels = jax.device_put(images["train"])
    run_step = jax.jit(demo_step(call, state, facts, options.seed), donate_argnums=0)
    epoch_steps = facts["settings"]["images"] // facts["settings"]["batch_size"]
    epochs = min(options.epochs or 2**31, len(facts["rates"]))
    about = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    record(ready=time.perf_counter() - began, epoch=step // epoch_steps, **about)
    if step == 0:
        record(epoch=0, knn_top1=knn(state))
    longest = 0.0
    for epoch in range(step // epoch_steps, epochs):
        started = time.perf_counter()
        if started - began + longest > options.seconds:
            break
        order = shuffled(options.seed, epoch, facts["settings"]["images"])
        rate, losses = jnp.float32(facts["rates"][epoch]), []
        for _ in range(epoch_steps):
            state, loss = run_step(state, pixels, order, np.int64(step), rate)
            losses.append(loss)
            step += 1
        row = {"epoch": epoch + 1, "loss": float(jnp.stack(losses).mean())}
        row["seconds"] = time.perf_counter() - started
        if (epoch + 1) % options.knn_every == 0 or epoch + 1 == epochs:
            row["knn_top1"] = knn(state)
            save(options.folder, state, step)
        record(**row)
        longest = max(longest, time.perf_counter() - started)
    save(options.folder, state, step)
    record(saved=step, seconds=time.perf_counter() - began)


def demo_step(call, state, facts, seed):
    """Returns step(state, pixels, order of the epoch, number, rate) -> (state, loss)."""
    whole, batch = stepping(call, state), facts["settings"]["batch_size"]
    epoch_steps = facts["settings"]["images"] // batch

    def step(state, pixels, order, number, rate):
        key = jax.random.fold_in(jax.random.key(seed), number)
        draws = jax.random.uniform(key, (2, batch, facts["draws"]), jnp.float32)
        places = jax.lax.dynamic_slice(order, [number % epoch_steps * batch], [batch])
        others = {"pixels": pixels, "places": places, "number": number, "rate": rate}
        state, scalars = whole(state, others | {"draws1": draws[0], "draws2": draws[1]})
        return state, scalars["loss"]

    return step


def shuffled(seed, epoch, count):
    """The order of an epoch, int64 [count]."""
    key = jax.random.fold_in(jax.random.key(seed), 2**31 + epoch)  # no step's number
    return jax.random.permutation(key, count).astype(jnp.int64)


def knn_of(folder, facts, images):
    """Returns kNN top-1 (percent) of the test images, as a function of the state."""
    call, about = load(folder, "features")
    features, size = (
        jax.jit(lambda state, part: call(state | {"images": part})),
        about["batch_size"],
    )
    names = [name for name in about["arguments"] if name != "images"]

    def rows(state, pixels):
        parts = np.split(pixels, range(size, len(pixels), size))
        parts[-1] = np.resize(parts[-1], (size, *pixels.shape[1:]))  # whole batches
        made = [features({name: state[name] for name in names}, part) for part in parts]
        return jnp.concatenate([one["features"] for one in made])[: len(pixels)]

    def knn_top1(state):
        bank, queries = rows(state, images["train"]), rows(state, images["test"])
        labels = images["train_labels"], images["test_labels"]
        return vote(bank, labels[0], queries, labels[1], **facts["knn"])

    return knn_top1


def vote(bank, bank_labels, queries, query_labels, *, k, temperature) -> float:
    """Percent of the queries whose class has most votes, exp(similarity / temperature) each."""
    classes = int(max(bank_labels)) + 1
    right = 0
    for first in range(0, len(queries), 500):
        part = jnp.matmul(queries[first : first + 500], bank.T, precision="highest")
        similarity, nearest = jax.lax.top_k(part, min(k, len(bank)))
        votes = jax.nn.one_hot(jnp.asarray(bank_labels)[nearest], classes)
        votes = (votes * jnp.exp(similarity / temperature)[..., None]).sum(axis=1)
        right += int((votes.argmax(axis=1) == query_labels[first : first + 500]).sum())
    return 100 * right / len(queries)


def read_images(folder: Path, count: int) -> dict[str, np.ndarray]:
    """Decoded images, uint8 [n, S, S, 3], and labels; kept beside the tar for the next command.

    Args:
        count: training images, of every class as many; and a fifth as many to test by.
    """
    kept, packed = folder / f"images-{count}.npz", folder / "images.tar.xz"
    if not kept.exists():
        if not packed.exists():
            raise SystemExit(f"{packed} does not exist: make it with export.py demo --data")
        found: dict[str, list] = {"train": [], "test": []}
        with tarfile.open(packed) as tar:
            for member in tar:
                if member.isfile():
                    part, label, _ = Path(member.name).parts[-3:]
                    found[part].append((label, member.name, tar.extractfile(member).read()))
        classes = sorted({label for label, _, _ in found["train"]})
        arrays = {}
        for part, wanted in (("train", count), ("test", count // 5)):
            of_class = [sorted(r for r in found[part] if r[0] == label) for label in classes]
            rows = [row for each in zip(*of_class, strict=True) for row in each][:wanted]
            if len(rows) < wanted:
                raise SystemExit(f"{packed} holds {len(rows)} of {wanted} images of {part}")
            arrays[part] = np.stack([np.asarray(Image.open(BytesIO(row[2]))) for row in rows])
            arrays[f"{part}_labels"] = np.array([classes.index(row[0]) for row in rows])
        np.savez(kept, **arrays)
    with np.load(kept) as arrays:
        return dict(arrays)


def opened(options, facts):
    """Returns (state on the device, steps done): of the checkpoint, or the first."""
    path = options.folder / "checkpoint.npz"
    if not path.exists():
        return jax.device_put(drawn(facts["start"], options.seed)), 0
    with np.load(path) as arrays:
        state = dict(arrays)
    step = int(state.pop("step"))
    return jax.device_put(state), step


def save(folder: Path, state, step: int) -> None:
    """All of the state, under its name only once it is whole."""
    part = folder / "checkpoint.part.npz"
    np.savez(part, **state, step=step)
    os.replace(part, folder / "checkpoint.npz")
