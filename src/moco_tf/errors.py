"""The one exception that the command line turns into a single line and exit code 2, and others."""


class InputError(ValueError):
    """Something the user gave is wrong: the message names the argument, the value and the fix."""


class DivergedError(InputError):
    """Features are not finite any more: the run that made them has diverged."""


LOST_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same again may well succeed


class WorkerLostError(Exception):
    """Another process of the run is gone; no step can be taken without it."""

    exit_code = LOST_EXIT_CODE


class DamagedError(ValueError):
    """A file does not hold what was once written to it."""
