"""Measures of this machine: time, memory and disk of a run; images/s of its parts."""
