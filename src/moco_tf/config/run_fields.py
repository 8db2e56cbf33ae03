"""The fields of a pre-training run that say where it computes, and what it keeps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moco_tf.config.folder import FolderConfig


class MachineFields(FolderConfig):
    """Where the run computes, and how."""

    seed: int = Field(0, ge=0, lt=2**31, description="seed of everything random")
    devices: int | None = Field(
        None, ge=1, description="GPUs, or virtual CPU devices; none: all GPUs, or one CPU"
    )
    accumulation_steps: int = Field(
        1,
        ge=1,
        description="microbatches of a device's batch, one after another: less memory, same step",
    )
    recompute: bool = Field(
        False, description="compute activations again in the backward pass: less memory, same step"
    )
    worker_timeout: float = Field(
        1800, gt=0, description="seconds that one of several workers may keep the others waiting"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16", "float64"] = Field(
        "float32",
        description="arithmetic of the encoders (float64: slow, to compare runs); auto: "
        "mixed_bfloat16 on a processor that has AVX512-BF16, or else float32",
    )
    xla: Literal["auto", "on", "off"] = Field(
        "auto",
        description="compile the encoders with XLA (on or off); auto: off, faster on a CPU",
    )


class RunFields(FolderConfig):
    """What the run keeps, and how it is watched."""

    run_dir: str | None = Field(
        None, min_length=1, description="folder of the run; none: runs/RECIPE"
    )
    max_steps: int | None = Field(None, ge=0, description="stop after this many steps in all")
    log_every: int = Field(10, ge=1, description="steps between two logging points")
    checkpoint_every: int = Field(
        1000, ge=1, description="steps between two checkpoints (and at each end of an epoch)"
    )
    preemption_seconds: float = Field(
        25, gt=0, description="seconds from SIGTERM until the process is gone, saved if that fits"
    )
    knn_every: int = Field(
        1, ge=0, description="epochs between two evaluations; 0: only at the end"
    )
    knn_k: int = Field(200, ge=1, description="neighbours that vote in the kNN monitor")
    knn_max_bank: int = Field(
        100_000, ge=1, description="labelled images that the kNN monitor searches, at most"
    )
    knn_max_queries: int = Field(
        10_000, ge=1, description="images that the kNN monitor classifies, at most"
    )
    knn_temperature: float = Field(0.1, gt=1e-6, description="temperature of the kNN votes")
    knn_features: Literal["projection", "pooled"] = Field(
        "projection", description="features that the kNN monitor compares"
    )

    track: Literal["wandb", "mlflow"] | None = Field(
        None,
        description="experiment tracker beside TensorBoard (needs the extra of its name); "
        "none: no tracker",
    )
