"""YAML and JSON that is broken, too deep, too long, or means something that nobody expects."""

import json
import random

from cases import broken, number

VALUES = ("null", "true", "1e400", ".inf", "-.nan", "''", "[]", "{}", "[[]]", "{a: 1}", "-1", "0.5")
VALUES += ("0x" + "f" * 5000, "9" * 5000, "1" + "_0" * 3000, "2001-13-45", "1:99:99", "~", "yes")
VALUES += ("!!python/object/apply:os.system ['touch ran']", "!!binary x", "!!set {a}", "!!float x")
VALUES += (
    "!!timestamp x",
    "!!int ''",
    "!!bool x",
    "*a",
    "&a [*a]",
    "&a {a: *a}",
    "2001-01-01 9:9:9",
)
VALUES += ("!!omap [a: 1]", "!!pairs [1]", "!!merge x", "../../../etc/passwd", "/dev/zero", "~/x")
VALUES += ("!!python/name:os.system", "!!map [a]", "!!seq {}", "!<x> 1", "!x y", "| \n  x", "> x")
VALUES += (
    "[" * 1000,
    "{a: " * 500,
    "- " * 1000,
    "'",
    '"\\x',
    '"\\uD800"',
    "\t",
    "%YAML 9.9",
    "? x",
)
VALUES += ("on", "Infinity", "NaN", "2147483648", "-9223372036854775809", "1.5e308", "a" * 3000)
WEIRD = (None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), "", "x" * 5000, [], {}, [[]])
WEIRD += ("../../outside/ran", "/etc/passwd", "\x00", "\n", "\ud800", {"a": 1}, [1, "a"], 10**400)
WEIRD += (2**31, 2**63, 2**64, -(2**63), 10**18, "9" * 20, "nan", "1e999", "\x1b[31m")


def laughs(depth: int = 12) -> str:
    """Each line is nine times the one before."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for i in range(1, depth):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]")
    return "\n".join([*lines, f"epochs: *a{depth - 1}"])


def hostile_yaml(rng: random.Random, fields: dict[str, object]) -> bytes:
    """Lines of a config, one or more of them not what they should be."""
    chance = rng.random()
    lines = [f"{name}: {json.dumps(value)}" for name, value in rng.sample(list(fields.items()), 6)]
    if chance < 0.3:
        other = "\n".join(VALUES).encode()
        return broken(rng, "\n".join(lines).encode(), other)
    if chance < 0.34:
        return rng.choice(_WHOLES)(rng)
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(list(fields))
        value = rng.choice(VALUES) if rng.random() < 0.6 else str(number(rng))
        line = rng.choice((f"{name}: {value}", f"{value}: {name}", f"{name}: [{value}]", value))
        lines.insert(rng.randrange(len(lines) + 1), line)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


_WHOLES = (
    lambda rng: laughs().encode(),
    lambda rng: laughs(rng.randrange(2, 12)).replace("epochs", "lr").encode(),
    lambda rng: b"[" * rng.choice((100, 900, 20000)),
    lambda rng: b"{a: " * rng.choice((100, 900, 20000)),
    lambda rng: b"- " * rng.choice((100, 900, 20000)),
    lambda rng: b"".join(b"k%d: 1\n" % i for i in range(rng.choice((100, 5000, 100000)))),
    lambda rng: b"a: 1\n" * rng.choice((100, 30000)),
    lambda rng: b"epochs: " + b"9" * rng.choice((100, 10**6)),
    lambda rng: b"data: " + b"x" * rng.choice((100, 3 * 10**6)),
    lambda rng: "epochs: 3\n".encode("utf-16"),
    lambda rng: b"\xef\xbb\xbfepochs: 3\n",
    lambda rng: b"&a [*a]",
    lambda rng: b"<<: {epochs: 3}\n<<: [{seed: 1}, *x]",
    lambda rng: b"--- 1\n--- 2\n",
    lambda rng: rng.randbytes(rng.randrange(200)),
)


def hostile_json(rng: random.Random, value: object) -> bytes:
    """The JSON of `value` with other values at some places, too deep, or with broken bytes."""
    chance = rng.random()
    if chance < 0.3:
        return broken(rng, json.dumps(value).encode())
    if chance < 0.36:
        deep = rng.choice((100, 990, 5000, 200000))
        return rng.choice(
            (b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b"[" * deep)
        )
    if chance < 0.38:
        return rng.choice((b"9" * 5000, b"1e9999", b"NaN", b"", b"null", b"[]", b'"', b"\xff\xfe"))
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _swapped(rng, value)
    return json.dumps(value).encode()


def _swapped(rng: random.Random, value: object) -> object:
    """`value` with one part of it, at any depth, replaced, removed or added."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.08:
            return {key: held for key, held in value.items() if key != name}
        if kind < 0.16:
            return value | {rng.choice(("__class__", "x", "../x", "")): rng.choice(WEIRD)}
        return value | {name: _swapped(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        return [*value[:place], _swapped(rng, value[place]), *value[place + 1 :]]
    return rng.choice(WEIRD) if rng.random() < 0.6 else number(rng) * rng.choice((1, 1, -1))
