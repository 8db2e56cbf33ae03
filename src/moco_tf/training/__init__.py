"""The loop, and the part of a step that is not MoCo's: devices, microbatches, optimizers, logs."""
