"""The one exception that the command line turns into a single line and exit code 2, and others."""

LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Something the user gave is wrong: the message names the argument, the value and the fix.

    It is one line that a terminal can show, whatever names and values of a file it quotes.
    """

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))


class DivergedError(InputError):
    """Features are not finite any more: the run that made them has diverged."""


LOST_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same again may well succeed


class WorkerLostError(Exception):
    """Another process of the run is gone; no step can be taken without it."""

    exit_code = LOST_EXIT_CODE


class DamagedError(ValueError):
    """A file does not hold what was once written to it."""

    def __init__(self, reason: str = ""):
        super().__init__(one_line(reason))


def one_line(text: str) -> str:
    """Returns `text` with escapes for what cannot be printed, and without its middle if long."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
