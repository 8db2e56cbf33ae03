"""The one exception that the command line turns into a single line and exit code 2, and others."""


class InputError(ValueError):
    """Something the user gave is wrong: the message names the argument, the value and the fix."""


class DivergedError(InputError):
    """Features are not finite any more: the run that made them has diverged."""


class DamagedError(ValueError):
    """A file does not hold what was once written to it."""
