"""What was found where `--data` points, in lines for the console and counts for JSON."""

from __future__ import annotations

from collections import Counter

from moco_tf.data.listing import left_out_line, most_first
from moco_tf.data.sources import Images, labelled_indices

MOST_NAMES = 5  # of classes that are shown


def found_lines(train: Images, test: Images | None) -> list[str]:
    """Returns lines on the parts and classes, and on files and images that are not as they should.

    Those are files of other kinds, which are left out, and images that cannot be read or show
    nothing.
    """
    lines = [_parts_line(train, test), left_out_line(Counter(left_out(train, test)))]
    for images, kind in ((train, ""), (test, "test ")):
        lines += [images.skipped_line(kind), images.looks_line(kind)] if images else []
    return [line for line in lines if line]


def skipped_lines(train: Images, test: Images | None) -> list[str]:
    """Returns a line for each part of which images cannot be read, as far as they were met."""
    lines = [train.skipped_line(), test.skipped_line("test ") if test else ""]
    return [line for line in lines if line]


def left_out(*parts: Images | None) -> dict[str, int]:
    """Returns how many files of the parts are no images, by kind, most first."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part.left_out if part else {})
    return dict(most_first(total))


def _parts_line(train: Images, test: Images | None) -> str:
    """Empty for arrays of which there is nothing to say."""
    whole = all(len(labelled_indices(p)) in (0, p.count) for p in (train, test) if p)
    if train.files is None and train.names is None and whole and not train.passed_over:
        return ""
    parts = [f"{train.split or train.name}: {train.count} images, {_classes(train)}"]
    if test:
        unlabelled = test.labels is None and train.labels is not None
        classes = ", no labels" if unlabelled else _without_label(test)
        parts.append(f"{test.split or 'test'}: {test.count} images{classes}")
    if train.passed_over:
        more = f" and {len(train.passed_over) - MOST_NAMES} more"
        names = ", ".join(train.passed_over[:MOST_NAMES])
        parts.append(f"passed over: {names}{more if len(train.passed_over) > MOST_NAMES else ''}")
    return "; ".join(parts)


def _classes(images: Images) -> str:
    if images.labels is None:
        why = f" ({images.why_unlabelled})" if images.why_unlabelled else ""
        return f"no labels{why}"
    names = images.class_names
    count = len(names) or int(images.labels.max()) + 1
    shown = f" ({', '.join(names[:MOST_NAMES])}{', ...' if count > MOST_NAMES else ''})"
    return f"{count} classes{shown if names else ''}{_without_label(images)}"


def _without_label(images: Images) -> str:
    """Of how many images the label is unknown, and of which first; empty if of none or of all."""
    if images.labels is None or images.labels.min() >= 0:
        return ""
    unknown = (images.labels < 0).nonzero()[0]
    first = f" ({images.files[unknown[0]]})" if images.files else ""
    return f", {len(unknown)} of them without a label{first}"
