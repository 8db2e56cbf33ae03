"""The files that the authors of MoCo released, by name: where they are, and their licence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moco_tf.convert import torch_file, torch_process
from moco_tf.errors import DamagedError, near_name
from moco_tf.files.download import download
from moco_tf.files.store import cache_folder

SERVER = "https://dl.fbaipublicfiles.com"
SERVER_VARIABLE = "MOCO_TF_WEIGHTS_URL"  # another server with the same files below it
LICENCE = "CC-BY-NC 4.0"


@dataclass(frozen=True)
class Released:
    """A file below the server's URL."""

    place: str
    page: str  # that publishes it
    md5: str | None = None  # first digits, as the page gives them


def _v1_v2(name: str, md5: str) -> Released:
    place = f"moco/moco_checkpoints/{name}/{name}_pretrain.pth.tar"
    return Released(place, "github.com/facebookresearch/moco", md5)


def _v3(place: str) -> Released:
    return Released(f"moco-v3/{place}.pth.tar", "github.com/facebookresearch/moco-v3")


RELEASED = {
    "moco-v1-200ep": _v1_v2("moco_v1_200ep", "b251726a"),
    "moco-v2-200ep": _v1_v2("moco_v2_200ep", "59fd9945"),
    "moco-v2-800ep": _v1_v2("moco_v2_800ep", "a04e12f8"),
    "moco-v3-r50-100ep": _v3("r-50-100ep/r-50-100ep"),
    "moco-v3-r50-300ep": _v3("r-50-300ep/r-50-300ep"),
    "moco-v3-r50-1000ep": _v3("r-50-1000ep/r-50-1000ep"),
    "moco-v3-r50-100ep-linear": _v3("r-50-100ep/linear-100ep"),
    "moco-v3-r50-300ep-linear": _v3("r-50-300ep/linear-300ep"),
    "moco-v3-r50-1000ep-linear": _v3("r-50-1000ep/linear-1000ep"),
    "moco-v3-vit-s-300ep": _v3("vit-s-300ep/vit-s-300ep"),
    "moco-v3-vit-b-300ep": _v3("vit-b-300ep/vit-b-300ep"),
}


def is_released(source: Path | str) -> bool:
    """Whether `source` is the name of a released file, and of nothing on this machine."""
    return str(source) in RELEASED and not Path(source).exists()


def meant_name(name: str) -> str:
    """Returns what to say of a `name` that is nothing, if it is like a released file's."""
    if not name.startswith("moco"):
        return ""
    known = f"Known names: {', '.join(RELEASED)}."
    near = near_name(name.replace("_", "-"), RELEASED)
    return f" Did you mean {near}? {known}" if near else ""


def url_of(name: str) -> str:
    """Returns where the file is downloaded from."""
    return f"{os.environ.get(SERVER_VARIABLE, SERVER).rstrip('/')}/{RELEASED[name].place}"


def licence_of(name: str) -> str:
    """Returns the line on the licence and the source."""
    return f"{name}: licence {LICENCE}, no commercial use, says the README of {RELEASED[name].page}"


def fetch(name: str, say: Callable[[str], None]) -> Path:
    """Returns the file in the user's cache; downloads it if it is not there or damaged.

    Raises:
        InputError: torch, which reads it, is not installed; it cannot be downloaded, or is not
            the file that was published.
    """
    file = RELEASED[name]
    path = cache_folder() / "released" / f"{name}.pth.tar"
    if not torch_process.installed():
        raise torch_file.needs_extra(Path(name))

    def check(downloaded: Path) -> None:
        if file.md5 is None:
            return
        with open(downloaded, "rb") as opened:
            digest = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False))
        if not digest.hexdigest().startswith(file.md5):
            raise DamagedError(
                f"its MD5 begins with {digest.hexdigest()[: len(file.md5)]}, and {file.page} "
                f"gives {file.md5}"
            )

    if path.is_file():
        try:
            check(path)
            say(f"found {path}")
            return path
        except DamagedError as error:
            say(f"{path} is damaged ({error}), and is downloaded again")
    download(url_of(name), path, check=check, say=say)
    if file.md5 is None:
        with open(path, "rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        say(f"no checksum is published of {name}; that of what came is SHA-256 {sha256}")
    return path
