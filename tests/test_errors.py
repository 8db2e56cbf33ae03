"""The message of an `InputError` is one line for a terminal, whatever it quotes."""

import pytest

from moco_tf.errors import LONGEST, InputError, in_keywords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a plain line, ü 图", "a plain line, ü 图"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("no \udcff text \u202e", r"no \udcff text \u202e"),
    ],
)
def test_what_cannot_be_shown_is_escaped(text, shown):
    assert str(InputError(text)) == shown


def test_the_middle_of_a_long_one_is_left_out():
    message = str(InputError("begin " + "x" * 10**6 + " end. Fix it."))
    assert len(message) < LONGEST
    assert (
        message.startswith("begin x") and message.endswith("x end. Fix it.") and " ... " in message
    )


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("Use --batch-size 64 --group-size 8.", "Use batch_size 64 group_size 8."),
        ("Use another --out, or --overwrite it.", "Use another out, or overwrite it."),
        ("--no-baselines is for --quick; it", "baselines=False is for quick; it"),
        ("a/--b and x--y and -- and A-B stay", "a/--b and x--y and -- and A-B stay"),
        (
            "Copy it: moco-tf convert a.pth --to moco-tf. Or raise --epochs",
            "Copy it: moco-tf convert a.pth --to moco-tf. Or raise epochs",
        ),
        (
            "or go on: moco-tf pretrain --run-dir runs/a",
            "or go on: moco-tf pretrain --run-dir runs/a",
        ),
    ],
)
def test_a_message_for_python_names_keywords(message, wanted):
    assert in_keywords(message) == wanted
