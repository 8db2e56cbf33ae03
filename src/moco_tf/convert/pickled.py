"""Looking at a pickle without loading it: how much its tuples stand for.

A tuple may hold another several times, that one a third, and so on: some hundred bytes stand for
more objects than can ever be counted, and a tuple that is a key is counted through.
"""

from __future__ import annotations

import pickletools
from typing import BinaryIO

MOST_IN_A_TUPLE = 100_000  # objects; a tensor's has about twenty
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")


def check_pickle(file: BinaryIO) -> None:
    """Raises `ValueError` unless what `file` goes on with is a pickle whose tuples are small."""
    stack: list[int | None] = []  # objects in each of what is on the machine's stack; None: a mark
    memo: dict[int, int | None] = {}
    for code, argument, _ in pickletools.genops(file):
        if code.name in _PUTS:
            number = len(memo) if code.name == "MEMOIZE" else int(argument or 0)
            memo[number] = stack[-1] if stack else 1
        elif code.name in _GETS:
            stack.append(memo.get(int(argument or 0), 1))
        elif code.name == "MARK":
            stack.append(None)
        else:
            taken = _take(stack, [kind.name for kind in code.stack_before])
            stack += [1 + taken] * len(code.stack_after)
            if code.name in _TUPLES and taken > MOST_IN_A_TUPLE:
                raise ValueError(f"a tuple in it stands for more than {MOST_IN_A_TUPLE} objects")


def _take(stack: list[int | None], kinds: list[str]) -> int:
    """Takes what an instruction takes off the stack; returns how many objects that is."""
    taken = 0
    if "mark" in kinds:
        while stack and (top := stack.pop()) is not None:
            taken += top
        kinds = kinds[: kinds.index("mark")]
    for _ in kinds:
        taken += (stack.pop() or 0) if stack else 0
    return taken
