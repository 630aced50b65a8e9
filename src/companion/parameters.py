"""A notebook's parameters: declared in its text, read and checked without running anything.

They stand in the cell tagged ``parameters``, one a line, typed, with a default, and a comment
that ends in what is allowed (no ``=`` in it, which `papermill --help-notebook` cannot read)::

    n: int = 4               # number of states, 1 to 64
    norm: float = 0.9        # spectral norm of W, in (0, 1]
    seed: int = 0            # seed of every draw, in [0, inf)
    dtype: str = "float64"   # arithmetic, one of: float32, float64
    plot: bool = True        # whether to draw

Types are int, float, str and bool; an int or a float needs a range or choices.
"""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from companion.provenance import Refused

Value = int | float | str | bool
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: name, type, default, meaning, and what is allowed."""

    name: str
    type: str
    default: Value
    doc: str
    interval: str = ""
    choices: tuple[Value, ...] = ()

    @property
    def allowed(self) -> str:
        """The type and the range or choices, in words."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.interval:
            return f"{self.type} in {self.interval}"
        return {"bool": "true or false", "str": "text of printable characters"}.get(
            self.type, self.type
        )

    def read(self, text: str) -> Value:
        """The value that ``text`` writes out, or `Refused` naming what is allowed."""
        value: Value | None = None
        if self.type == "bool":
            value = {"true": True, "false": False}.get(text.lower())
        elif self.type == "str":
            value = text if text and text.isprintable() else None
        elif self.type == "int":
            # Python itself stops at 4300 digits, with a ValueError about something else
            value = int(text) if re.fullmatch(r"[+-]?[0-9]{1,1000}", text) else None
        elif re.fullmatch(_NUMBER, text, re.ASCII) and math.isfinite(float(text)):
            value = float(text)
        if (
            value is None
            or (self.choices and value not in self.choices)
            or (self.interval and not _inside(value, self.interval))
        ):
            shown = text if len(text) <= 60 else text[:57] + "…"
            raise Refused(f"parameter {self.name} is {shown!r}; allowed: {self.allowed}.")
        return value


_HOW = "end it with `1 to 64`, `in (0, 1]`, `in [0, inf)` or `one of: a, b`"


def _inside(value: Any, interval: str) -> bool:
    low, high = (
        int(end) if re.fullmatch(r"[+-]?\d+", end) else float(end)
        for end in interval[1:-1].split(",")
    )
    above = value >= low if interval[0] == "[" else value > low
    return bool(above and (value <= high if interval[-1] == "]" else value < high))


def _parameter(line: ast.stmt, comment: str) -> Parameter:
    """One parameter from its assignment and its comment; ValueError says what is wrong."""
    if not (
        isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and isinstance(line.annotation, ast.Name)
        and line.annotation.id in ("int", "float", "str", "bool")
        and line.value is not None
    ):
        raise ValueError("it is not `name: type = default` with type int, float, str or bool")
    name, kind = line.target.id, line.annotation.id
    default = ast.literal_eval(line.value)
    comment = comment.strip("# ")
    interval = ""
    choices: tuple[Value, ...] = ()
    if clause := re.search(r"\bone of: *(.+)$", comment):
        words = clause[1].split(",")
        choices = tuple(Parameter(name, kind, 0, "").read(word.strip()) for word in words)
    elif clause := re.search(rf"\b({_NUMBER}) to ({_NUMBER})$", comment):
        interval = f"[{clause[1]}, {clause[2]}]"
    elif clause := re.search(
        rf"\bin ([\[(] *(?:{_NUMBER}|-inf), *(?:{_NUMBER}|inf) *[\])])$", comment
    ):
        interval = clause[1]
    doc = comment[: clause.start()].rstrip(" ,;:") if clause else comment
    if re.search(r"[<>=]|one of|\bin [\[(]", doc):
        raise ValueError(f"what its comment allows is not understood: {_HOW}")
    if not doc:
        raise ValueError("its comment does not say what it means")
    if kind in ("int", "float") and not (interval or choices):
        raise ValueError(f"its comment lacks a range: {_HOW}")
    if kind in ("str", "bool") and interval:
        raise ValueError(f"a {kind} takes choices, not a range")
    found = type(default).__name__
    if found != kind and not (kind == "float" and found == "int"):
        raise ValueError(f"its default {default!r} is no {kind}")
    parameter = Parameter(name, kind, default, doc, interval, choices)
    # a default out of its own range is refused too, and `float = 1` becomes 1.0
    return replace(parameter, default=parameter.read(str(default)))


def parse_parameters(cell: str) -> tuple[Parameter, ...]:
    """The parameters that a cell declares, by the convention at the top of this module.

    Raises
    ------
    Refused : names the first line that does not follow it.
    """
    try:
        body = ast.parse(cell).body
        tokens = tokenize.generate_tokens(io.StringIO(cell).readline)
        comments = {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
    except SyntaxError as error:
        raise Refused(f"the parameters cell is not Python: {error}.") from error
    found: dict[str, Parameter] = {}
    for line in body:
        try:
            parameter = _parameter(line, comments.get(line.end_lineno or 0, ""))
            if parameter.name in found:
                raise ValueError("it stands there twice")
        except ValueError as error:
            shown = cell.splitlines()[line.lineno - 1].strip()
            raise Refused(f"line `{shown}` of the parameters cell: {error}.") from error
        found[parameter.name] = parameter
    return tuple(found.values())


def pairs(items: Iterable[str]) -> list[tuple[str, str]]:
    """(name, text) of each ``name=value``."""
    out = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise Refused(f"-p {item[:60]!r} is malformed; allowed: -p name=value.")
        out.append((name, text))
    return out


def pairs_from_yaml(path: Path) -> list[tuple[str, str]]:
    """(name, text) of each line of a YAML mapping of scalars; no value is constructed from it."""
    try:
        data = path.read_bytes()
        if len(data) > 1_000_000:
            raise Refused(f"{path} has {len(data)} bytes; allowed: at most 1 000 000.")
        node = yaml.compose(data.decode(), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise Refused(
            f"{path} cannot be read as YAML: {str(error) or 'nested too deeply'}."
        ) from error
    plain = [f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool")]
    if not isinstance(node, yaml.MappingNode):
        raise Refused(f"{path} is no mapping; allowed: lines of `name: value`.")
    for name, value in node.value:
        if not (isinstance(name, yaml.ScalarNode) and value.tag in plain):
            line = value.start_mark.line + 1
            raise Refused(f"{path}, line {line}: allowed: `name: value` with one number or text.")
    return [(name.value, value.value) for name, value in node.value]
