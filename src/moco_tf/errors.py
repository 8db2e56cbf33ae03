"""The one exception that the command line turns into a single line and exit code 2."""

LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Something the user gave is wrong: the message names the argument, the value and the fix.

    It is one line that a terminal can show, whatever names and values of a file it quotes.
    """

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))


class DivergedError(InputError):
    """Features are not finite any more: the run that made them has diverged."""


def one_line(text: str) -> str:
    """Returns `text` with escapes for what cannot be printed, and without its middle if long."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
