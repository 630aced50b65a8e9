"""What a reader of an executed page would take for a mistake."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
NOT_A_NUMBER = re.compile(r"(?<![\w-])nan(?![\w-])")


def _top(group: Any) -> float:
    """The y of a text, or the least one of a path."""
    for part in group.iter():
        if part.tag == f"{SVG}text" and part.get("y"):
            return float(part.get("y"))
        if moved := re.search(r"translate\(\S+ ([\d.-]+)\)", part.get("transform") or ""):
            return float(moved[1])
        if part.tag == f"{SVG}path":
            return min(float(y) for y in re.findall(r"[ML] \S+ (\S+)", part.get("d")))
    return -1.0


def _marks(group: Any) -> bool:
    """Whether anything in a group of a figure leaves a mark: a path with points, or an image."""
    defined = {part for defs in group.iter(f"{SVG}defs") for part in defs.iter()}
    for part in group.iter():
        path = part.tag == f"{SVG}path" and (part.get("d") or "").strip()
        if part not in defined and (path or part.tag in (f"{SVG}use", f"{SVG}image")):
            return True
    return False


def empty_axes(svg: str) -> bool:
    """Whether a figure has axes in which nothing is drawn, or lines without a point."""
    root = ElementTree.fromstring(svg[svg.index("<svg") :])  # noqa: S314 - our own figures
    for axes in root.iter(f"{SVG}g"):
        if not re.fullmatch(r"axes_\d+", axes.get("id") or ""):
            continue
        inside = [(child.get("id") or "", child) for child in axes]
        patches = [child for name, child in inside if name.startswith("patch")]
        if not any(name.startswith("matplotlib.axis") for name, _ in inside):
            continue  # a drawing, with axes switched off
        ground = _top(patches[0])
        words = [c for name, c in inside if name.startswith("text") and _top(c) > ground]
        marks = [c for name, c in inside if not re.match(r"patch|text|matplotlib\.|legend", name)]
        if not words and not any(_marks(mark) for mark in [*patches[5:], *marks]):  # four spines
            return True
    return False


def _texts(output: Mapping[str, Any]) -> Iterator[str]:
    """The texts of an output, as a reader meets them."""
    data = output.get("data", {})
    yield output.get("text", "")
    yield str(data.get("text/plain", ""))
    yield html.unescape(re.sub(r"<[^>]*>", " ", str(data.get("text/html", ""))))
    for svg in _figures(data):
        yield "\n".join(re.findall(r"<!-- (.*?) -->", svg))  # letters are drawn, words noted


def _figures(data: Mapping[str, Any]) -> Iterator[str]:
    """The figures of an output, those of a slider among them."""
    page = str(data.get("text/html", ""))
    inside = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page)
    for svg in (str(data.get("image/svg+xml", "")), *map(_decoded, inside)):
        if "<svg" in svg:
            yield svg


def _decoded(data: str) -> str:
    return base64.b64decode(data).decode()


def faults(notebook: Any) -> list[str]:
    """Name warnings, numbers that are none, and axes with nothing in them."""
    found = []
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} writes to stderr: {output.text[:200]!r}")
            for text in _texts(output):
                if hit := NOT_A_NUMBER.search(text):
                    near = text[max(0, hit.start() - 60) : hit.end() + 60]
                    found.append(f"cell {number} shows nan: {near!r}")
            if any(map(empty_axes, _figures(output.get("data", {})))):
                found.append(f"cell {number} has empty axes")
    return found


def lacking(results: Path, parameters: Mapping[str, object]) -> list[str]:
    """Say what is wrong with the results that a run left for the table of runs."""
    path = results / "values.json"
    if not path.is_file():
        return ["it leaves no values.json"]
    try:
        data = json.loads(path.read_text("utf-8"), parse_constant=_refuse)
    except ValueError as error:
        return [f"values.json: {error}"]
    rows = data if isinstance(data, list) else [data]
    columns = {name for row in rows for name in row}
    if not columns:
        return ["values.json has no columns"]
    return [f"values.json has the column {name}" for name in sorted(columns & parameters.keys())]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")
