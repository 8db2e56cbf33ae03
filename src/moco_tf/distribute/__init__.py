"""Devices and processes, and what they tell each other."""
