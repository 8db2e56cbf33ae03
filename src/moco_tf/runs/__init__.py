"""The run folder, checkpoints, encoders built and restored, checks of them."""
