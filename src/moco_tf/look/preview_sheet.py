"""The sheet of `moco-tf preview`: as a page, and as one picture."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moco_tf.config import Config
from moco_tf.errors import one_line
from moco_tf.report import page
from moco_tf.report.images import thumbnail

if TYPE_CHECKING:
    from moco_tf.look.preview import Row

SIDE = 160  # pixels of a picture on the sheet
COLORS = ((11, 111, 194), (217, 95, 2))  # of view 1 and of view 2
MOST_CLASSES, MOST_PAIRS = 12, 24
TEXT, LINE, GAP, WIDTH = 13, 17, 14, 1100


def fact_lines(result: dict[str, Any]) -> list[str]:
    """What was found, as sentences."""
    sizes = {name: f"{width} x {height}" for name, (width, height) in result["sizes"].items()}
    channels, crop = result["channels"], result["crop"]
    classes = list(result["classes"].items())
    shown = ", ".join(f"{name} {count}" for name, count in classes[:MOST_CLASSES])
    more = f", and {len(classes) - MOST_CLASSES} more" if classes[MOST_CLASSES:] else ""
    enlarged = crop["enlarged"]
    scale = f"enlarged {enlarged:g} times" if enlarged > 1 else f"reduced {1 / enlarged:.2g} times"
    counts = [f"{result['unreadable']} unreadable", f"{len(result['near_duplicates'])} pairs alike"]
    lines = [
        *result["found"],
        f"classes: {shown}{more}" if classes else "",
        f"of {result['looked_at']} pictures looked at: {', '.join(counts)}; {channels['gray']} in "
        f"gray levels, {channels['colour']} in colour; sizes {sizes['smallest']} to "
        f"{sizes['largest']}, {sizes['median']} in the middle",
        f"a crop takes a square of {crop['smallest']:.0f} to {crop['largest']:.0f} pixels a side "
        f"from such a picture; a view has {crop['view']}: the smallest one is {scale}",
    ]
    return [line for line in lines if line]


def advice_lines(result: dict[str, Any]) -> list[str]:
    """What is off, the first what keeps `pretrain` from starting."""
    lines = [f"pretrain would not start: {line}" for line in result["refused"]]
    return [*lines, *result["advice"]] or ["nothing is off"]


def boxed(row: Row, side: int) -> np.ndarray:
    """Returns the picture, its longer side `side` pixels, with the crops of both views outlined."""
    height, width = row.pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    filtered = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    image = Image.fromarray(thumbnail(row.pixels, 2 * side)).resize(size, filtered)
    draw = ImageDraw.Draw(image)
    for drawn, color in zip(row.drawn, COLORS, strict=True):
        top, left, tall, wide = (scale * number for number in drawn.crop)
        corners = (left, top, max(left, left + wide - 1), max(top, top + tall - 1))
        draw.rectangle(corners, outline=color, width=3)
    return np.asarray(image)


def html_sheet(config: Config, result: dict[str, Any], rows: list[Row]) -> bytes:
    """Returns the page; see `report.page.render`."""
    shown = [
        {
            "name": one_line(row.name),
            "position": about["position"],
            "size": about["size"],
            "boxed": boxed(row, SIDE),
            "views": list(zip(row.views, row.lines, strict=True)),
        }
        for row, about in zip(rows, result["views"], strict=True)
    ]
    return page.render(
        "preview.html",
        title="Before training",
        subtitle=f"recipe {config.recipe} on {config.data}",
        facts=fact_lines(result),
        advice=advice_lines(result),
        rows=shown,
        side=SIDE,
        seed=config.seed,
        pairs=result["near_duplicates"][:MOST_PAIRS],
        unreadable=result["unreadable_files"],
    )


def png_sheet(config: Config, result: dict[str, Any], rows: list[Row]) -> bytes:
    """Returns the same as one PNG, without the lists of files."""
    font, bold = (ImageFont.load_default(size) for size in (TEXT, TEXT + 7))
    head = [f"recipe {config.recipe} on {config.data}", *fact_lines(result)]
    head += [f"advice: {line}" for line in advice_lines(result)]
    above = [part for line in head for part in _wrapped(line, WIDTH - 2 * GAP, font)]
    captions = [[_caption(row, n, font) for n in (0, 1)] for row in rows]
    tall = [max(SIDE, LINE * max(map(len, both))) + LINE + 2 * GAP for both in captions]
    top = 2 * GAP + 2 * LINE + LINE * len(above)
    sheet = Image.new("RGB", (WIDTH, top + sum(tall)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), "Before training", "black", bold)
    for number, line in enumerate(above):
        draw.text((GAP, GAP + LINE * (number + 2)), line, "#333333", font)
    for row, about, both, height in zip(rows, result["views"], captions, tall, strict=True):
        name = f"{one_line(row.name)}, {about['size'][0]} x {about['size'][1]}"
        draw.line((GAP, top, WIDTH - GAP, top), "#d9dde2")
        draw.text((GAP, top + 4), name, "black", font)
        under = top + LINE + GAP
        sheet.paste(Image.fromarray(boxed(row, SIDE)), (GAP, under))
        for number, lines in enumerate(both):
            left = GAP + SIDE + GAP + number * (WIDTH - SIDE - 2 * GAP) // 2
            sheet.paste(_framed(row.views[number], COLORS[number]), (left, under))
            for place, line in enumerate(lines):
                draw.text((left + SIDE + GAP, under + LINE * place), line, "#333333", font)
        top += height
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _caption(row: Row, number: int, font: Any) -> list[str]:
    width = (WIDTH - SIDE - 2 * GAP) // 2 - SIDE - 2 * GAP
    lines = [f"view {number + 1}", *row.lines[number]]
    return [part for line in lines for part in _wrapped(line, width, font)]


def _framed(pixels: np.ndarray, color: tuple[int, int, int]) -> Image.Image:
    filtered = Image.Resampling.NEAREST if len(pixels) < SIDE else Image.Resampling.BILINEAR
    image = Image.fromarray(pixels).resize((SIDE, SIDE), filtered)
    ImageDraw.Draw(image).rectangle((0, 0, SIDE - 1, SIDE - 1), outline=color, width=3)
    return image


def _wrapped(text: str, width: int, font: Any) -> list[str]:
    """Lines that are about `width` pixels long at most."""
    letters = max(8, int(width / (font.getlength("n") * 0.88)))
    return textwrap.wrap(one_line(text), letters, subsequent_indent="  ") or [""]
