"""Pages of one file: what is escaped, which scripts may run, pictures and numbers in them."""

import base64
import hashlib
import io
import re

import numpy as np
import pytest
from PIL import Image

from moco_tf.errors import InputError
from moco_tf.report.charts import MOST_POINTS, Chart, Line
from moco_tf.report.images import data_uri, sprite, thumbnail
from moco_tf.report.page import link, number, render, write

HOSTILE = '"><script>alert(1)</script>.jpg'


def page(**changes):
    values = {"title": "a page", "subtitle": ""} | changes
    return render("page.html", **values).decode()


def decoded(uri):
    kind, _, text = uri.partition(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_what_comes_from_outside_is_escaped():
    text = page(title=HOSTILE)
    assert "alert(1)</script>" not in text
    assert "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;.jpg" in text


def test_bytes_that_are_no_utf_8_are_shown_as_question_marks():
    assert "<h1>a?b</h1>" in page(title=b"a\xffb".decode("utf-8", "surrogateescape"))


def test_only_the_pages_own_scripts_may_run_and_nothing_is_loaded():
    text = page()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    assert len(scripts) == 2
    assert policy.split("script-src ")[1].split() == allowed
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)


def test_a_chart_in_a_page_cannot_end_its_script():
    chart = Chart(f"loss {HOSTILE}", (Line("</script>", [1, 2], [3, 4]),))
    from moco_tf.report.page import _environment

    shown = _environment().get_template("parts.html").module.chart(chart)
    assert shown.count("</script>") == 1
    assert 'role="img" aria-label="loss &#34;&gt;' in shown


def test_write_refuses_a_folder(tmp_path):
    with pytest.raises(InputError, match=rf"^out={tmp_path} is a folder. Give a file: --out "):
        write(tmp_path, b"")


def test_links_lead_from_the_page_to_the_file(tmp_path):
    file = tmp_path / "run" / 'a "b"&.json'
    assert link(file, tmp_path / "out" / "report.html") == "../run/a%20%22b%22%26.json"
    assert link(tmp_path / "run/x", tmp_path / "run/report.html") == "x"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (3, "3"), (12345, "12,345"), (12345.6, "12,346"), (0.123456, "0.1235")],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_small_pictures_stay_as_they_are_and_large_ones_shrink():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    kind, seen = decoded(data_uri(pixels))
    assert kind == "data:image/png"
    np.testing.assert_array_equal(seen, pixels)
    wide = thumbnail(np.full((100, 400, 3), 90, np.uint8), 80)
    assert wide.shape == (20, 80, 3) and (wide == 90).all()
    assert decoded(data_uri(np.zeros((100, 400, 3), np.uint8), 80))[0] == "data:image/jpeg"


def test_a_sprite_holds_each_picture_in_its_place():
    pictures = [np.full((8, 8, 3), 30 * n, np.uint8) for n in range(7)]
    uri, columns = sprite(pictures, 8)
    _, sheet = decoded(uri)
    assert columns == 3 and sheet.shape == (24, 24, 3)
    for place in range(7):
        top, left = (8 * n for n in divmod(place, columns))
        np.testing.assert_allclose(sheet[top : top + 8, left : left + 8].mean(), 30 * place, atol=3)


def test_lines_are_drawn_over_one_axis():
    chart = Chart("t", (Line("a", [1, 3], [10, 30]), Line("b", [2, 3], [None, float("nan")])))
    assert chart.drawn["data"] == [[1, 3], [10, 30], [None, None]]
    assert chart.spoken == "t by epoch: a from 10 to 30"


def test_a_long_line_is_drawn_by_means_of_its_neighbours():
    x = np.arange(10 * MOST_POINTS, dtype=float)
    line = Line("a", x.tolist(), (2 * x).tolist()).thinned()
    assert len(line.x) == MOST_POINTS
    assert line.x[:2] == (4.5, 14.5) and line.y[:2] == (9.0, 29.0)
