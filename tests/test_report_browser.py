"""A report in a real browser: its charts are drawn, nothing is complained of, names do no harm."""

import html
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support.labelled_run import make_run, pictures, save_npz
from support.written_runs import EPOCH_STEPS, write_run

from moco_tf.data.sources import from_arrays
from moco_tf.report.picture_map import map_of
from moco_tf.report.read import read
from moco_tf.report.sample import Sample
from moco_tf.report.seen import look
from moco_tf.report.write import SECTIONS, Seen, nothing_seen, write_report
from moco_tf.runs.snapshot import peek

HOSTILE = '"><script>alert(1)</script>'
OTHER = "<img src=x onerror=\"document.title='harmed'\">'};document.title='harmed';//"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
# A page in a frame as wide as a phone; the pointer over its first curve and a point of its map.
PHONE = """<title>?</title><iframe width="390" height="900" srcdoc="PAGE"></iframe><script>
onload = () => {
  const frame = frames[0], page = frame.document, find = (name) => page.querySelector(name);
  const middle = (one) => {
    const box = one.getBoundingClientRect();
    const place = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
    return { ...place, movementX: 1, bubbles: true };
  };
  const over = find(".u-over"), point = find("figure.map circle");
  over.dispatchEvent(new frame.MouseEvent("mousemove", middle(over)));
  point.dispatchEvent(new frame.PointerEvent("pointermove", middle(point)));
  setTimeout(() => {
    document.title = JSON.stringify({
      width: page.documentElement.scrollWidth,
      values: [...find(".u-legend").querySelectorAll(".u-value")].map((one) => one.textContent),
      tip: find(".tip").hidden ? null : find(".tip").innerText,
      thumbnail: frame.getComputedStyle(find(".tip .thumb")).backgroundImage.slice(0, 20),
    });
  }, 500);
};</script>"""


class Tags(HTMLParser):
    """The title, and the attributes of scripts and images, of a document."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.images, self.title, self._of = [], [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._of = tag
        kinds = {"script": self.scripts, "img": self.images}
        kinds.get(tag, []).append(dict(attributes))

    def handle_data(self, data):
        self.title += data if self._of == "title" else ""
        self._of = ""


@pytest.fixture
def opened(tmp_path):
    """Returns a function: path of a page -> the document after its scripts, what was logged."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"no browser found: none of {', '.join(NAMES)} is installed")

    def open_page(path):
        profile = tmp_path / "profile"
        log = ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000", "--dump-dom"]
        done = subprocess.run(
            [browser, *FLAGS, f"--user-data-dir={profile}", *log, path.resolve().as_uri()],
            capture_output=True, check=True, timeout=120,
        )  # fmt: skip
        said = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
        return done.stdout.decode(), said

    return open_page


def sections(page):
    return re.findall(r'<section id="(\w+)"', page)


@pytest.mark.slow
def test_every_chart_is_drawn_and_nothing_is_complained_of(tmp_path, opened):
    runs = [read(write_run(tmp_path / name)) for name in ("a", "b")]
    for found in (runs[:1], runs):
        figures = write_report(found, nothing_seen("not here"), tmp_path / "page.html")
        page, said = opened(tmp_path / "page.html")
        assert said == []
        assert sections(page) == list(SECTIONS)
        assert page.count("<canvas") == len(figures["curves"]) == 8


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
def test_hostile_names_do_no_harm(tmp_path, opened):
    run = make_run(tmp_path / "run", save_npz(tmp_path / "data.npz"))
    pixels, labels = pictures(20, 0)
    classes = np.array([HOSTILE, OTHER, b"\xff\xe9".decode("utf-8", "surrogateescape")])
    named = tuple(f"{classes[n]}/{HOSTILE}{n}.jpg" for n in labels)
    train = replace(from_arrays(HOSTILE, pixels, classes[labels]), paths=named, files=named)
    folder = Path(run.folder)
    seen = look(
        folder, peek(folder), train, None, pictures=20, images_per_second=None, warn=print
    )  # fmt: skip
    assert seen.absent == {}
    write_report([read(folder)], seen, tmp_path / f"{OTHER.replace('/', '_')}.html")
    page, said = opened(tmp_path / f"{OTHER.replace('/', '_')}.html")
    assert said == [] and sections(page) == list(SECTIONS)
    found = Tags(page)
    assert found.title == "run"
    kinds = [script.get("type") for script in found.scripts]
    assert sorted(kinds, key=str) == [None, None, "application/json"]  # our two, and the map's
    assert all(image["src"].startswith("data:image/") for image in found.images)
    assert not any(name.startswith("on") for image in found.images for name in image)
    assert f"{HOSTILE}/{HOSTILE}0.jpg" in {image.get("title") for image in found.images}


@pytest.mark.slow
def test_on_a_phone_it_fits_and_the_pointer_tells_a_curves_values_and_a_points_picture(
    tmp_path, opened
):
    runs = [read(write_run(tmp_path / name)) for name in ("a", "a-name-that-is-long" * 3)]
    crops, labels = pictures(20, 0)
    names = [f"{n}.jpg" for n in range(20)]
    sample = Sample(crops, names, labels, ("disc", "ring", "star"), bank=16, share=1.0)
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    shown, figures = map_of(runs[0].config, sample, features, "pca")
    absent = nothing_seen("not here").absent
    write_report(runs, Seen({"map": shown}, {"map": figures}, absent), tmp_path / "page.html")
    page = html.escape((tmp_path / "page.html").read_text())
    (tmp_path / "phone.html").write_text(PHONE.replace("PAGE", page))
    outer, said = opened(tmp_path / "phone.html")
    told = json.loads(Tags(outer).title)
    assert said == [] and told["width"] <= 390
    step, *losses = map(float, told["values"])
    assert losses[0] == losses[-1] == 6.0 - step * EPOCH_STEPS / 10  # of both runs
    assert losses[1] == pytest.approx(math.log(513), abs=1e-4)
    first = shown["groups"][0][2][0]
    assert told["tip"] == f"disc: {first}.jpg"
    assert told["thumbnail"].startswith('url("data:image/jpeg')
