"""MoCo: the step of each version, and its maths as pure functions."""
