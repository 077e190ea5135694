"""matplotlib's SVG made part of a page: no styles, no names of its own, the page's colours.

The page's rules against foreign content forbid styles in attributes, and a page that has several
pictures must not have an id twice.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.figure import Figure

DROPPED = {"metadata", "style"}
"""Elements that say who made it, and rules for the whole page."""

UNWANTED = {"version", "font-family", "style"}
"""Attributes that the page decides about, or that are taken apart."""

NUMBER = re.compile(r"-?\d+\.\d+")
MEASURED = {"d", "x", "y", "points", "transform"}
"""Attributes with coordinates: a hundredth of a point is enough."""

REFERENCE = re.compile(r"#([\w.-]+)")


def inline(figure: Figure, prefix: str, palette: Mapping[str, str], alt: str) -> str:
    """Write a figure as an ``<svg>`` to stand in a page.

    ``prefix`` stands before what has to be unique there; ``palette``: colour -> the page's.
    """
    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fedjury"}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    root = ET.fromstring(written.getvalue())  # noqa: S314 - it is ours
    used = {name for node in root.iter() for name in _referred(node)}
    _clean(root, prefix, palette, used)
    del root.attrib["width"], root.attrib["height"]
    root.attrib |= {
        "role": "img",
        "aria-label": alt,
        "stroke-linejoin": "round",
        "class": "picture",
    }
    return ET.tostring(root, encoding="unicode").replace("\n", "")


def _referred(node: ET.Element) -> list[str]:
    """Return the ids that an element refers to."""
    result = [
        REFERENCE.findall(value)
        for key, value in node.attrib.items()
        if "url(#" in value or key.endswith("href")
    ]
    return [name for names in result for name in names]


def _clean(node: ET.Element, prefix: str, palette: Mapping[str, str], used: set[str]) -> None:
    """Take an element's names, styles and colours into the page, and those of all inside it."""
    node.tag = _local(node.tag)
    node.text = (node.text or "").strip() or None
    node.tail = None
    content = {_local(key): value for key, value in node.attrib.items()}
    for rule in content.get("style", "").split(";"):
        key, _, value = rule.partition(":")
        if value:
            content[key.strip()] = value.strip()
    node.attrib.clear()
    for key, value in content.items():
        if key in UNWANTED or (key == "id" and value not in used):
            continue
        node.set(key, _value(key, value, prefix, palette))
    for child in list(node):
        if _local(child.tag) in DROPPED:
            node.remove(child)
        else:
            _clean(child, prefix, palette, used)


def _value(key: str, value: str, prefix: str, palette: Mapping[str, str]) -> str:
    if key == "id":
        return prefix + value
    if key == "href" or "url(#" in value:
        return value.replace("#", f"#{prefix}")
    if key in MEASURED:
        short = NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value)
        return " ".join(short.split())
    return palette.get(value, value)


def _local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]
