"""Folders of images with odd names, links, pipes and holes, and with a hostile cache."""

import random

import numpy as np
from archives import hostile_npz
from cases import Case, Hole, Link
from images import hostile_image, whole_images

NAMES = ("a.jpg", "b.PNG", "c.jpeg", "d.webp", "e.gif", "f.bmp", "g.jpg.txt", "h", ".hidden.jpg")
NAMES += (
    "a\nb.jpg",
    "\x1b[31m.png",
    "\udcff\udcfe.jpg",
    "x" * 200 + ".jpg",
    " .png",
    "\u202egnp.jpg",
)
NAMES += ("a'b\".gif", "$(touch ran).jpg", "-rf.png", "%s%n.jpg", "{}.png", "CON.jpg")
PLACES = ("", "", "train/a/", "train/b/", "val/a/", "test/b/", ".git/", "deep/" * 30, "a.jpg.d/")
CACHE = "cache.npz"  # the reader gives it the name that the package looks for
ODD = (None, Hole(2**40), Hole(2**20), Link("."), Link(".."), Link("nothing"), Link("/dev/zero"))
ODD += (Link("whole.png"), Link("a.jpg"), Link("/dev/stdin"))
WHOLE = ("jpeg", "png", "gif", "webp", "bmp", "animated.webp", "deep.png")


def hostile_folder(rng: random.Random) -> Case:
    case: Case = {"whole.png": whole_images()["png"]} if rng.random() < 0.7 else {}
    for _ in range(rng.randrange(1, 7)):
        name = rng.choice(PLACES) + rng.choice(NAMES)
        if rng.random() < 0.5:
            case[name] = whole_images()[rng.choice(WHOLE)]
        elif rng.random() < 0.7:
            case[name] = hostile_image(rng)
        else:
            case[name] = rng.choice(ODD)
    if rng.random() < 0.3:
        arrays = {
            "names": np.frombuffer(b"whole.png\0a.jpg", np.uint8),
            "stamps": np.zeros((2, 2), np.int64),
            "sizes": np.ones((2, 2), np.int32),
        }
        case[CACHE] = hostile_npz(rng, arrays)
    return case
