"""A notebook's parameters: declared in its text, read and checked without running anything.

They stand in the cell tagged ``parameters``, one a line, typed, with a default, and a comment
that ends in what is allowed (no ``=`` in it, which `papermill --help-notebook` cannot read)::

    n: int = 4               # number of states, 1 to 64
    norm: float = 0.9        # spectral norm of W, in (0, 1]
    seed: int = 0            # seed of every draw, in [0, inf)
    dtype: str = "float64"   # arithmetic, one of: float32, float64
    plot: bool = True        # whether to draw
    models: str = "rnn"      # what is trained, words of: rnn, urnn
    sizes: str = "2 4"       # hidden units, numbers 1 to 64
    student: str = "none"    # of yours: path of a safetensors file, or none

Types are int, float, str and bool; an int or a float needs a range or choices. ``words of`` and
``numbers`` stand for a list with spaces between, in which nothing is twice; ``path of`` for a file,
whose content is then part of what a run is named after.
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

from companion.running.record import Refused

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
    is_list: bool = False

    @property
    def is_file(self) -> bool:
        """Whether a value other than the default is the path of a file."""
        return self.type == "str" and bool(re.search(r"\bpath of\b", self.doc))

    @property
    def allowed(self) -> str:
        """The type and the range or choices, in words."""
        if self.is_list:
            items = f"of {', '.join(map(str, self.choices))}" if self.choices else ""
            items = items or f"whole numbers in {self.interval}"
            return f"a list with spaces between, {items}, none twice"
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
        elif self.is_list:
            value = text if self._all_allowed(text) else None
        elif self.type == "str":
            value = text if text and text.isprintable() else None
        elif self.type == "int":
            # Python itself stops at 4300 digits, with a ValueError about something else
            value = int(text) if re.fullmatch(r"[+-]?[0-9]{1,1000}", text) else None
        elif re.fullmatch(_NUMBER, text, re.ASCII) and math.isfinite(float(text)):
            value = float(text)
        if (
            value is None
            or (self.choices and not self.is_list and value not in self.choices)
            or (self.interval and not self.is_list and not _inside(value, self.interval))
        ):
            shown = text if len(text) <= 60 else text[:57] + "…"
            raise Refused(f"parameter {self.name} is {shown!r}; allowed: {self.allowed}.")
        return value

    def _all_allowed(self, text: str) -> bool:
        words = text.split(" ")
        if len(set(words)) < len(words):
            return False
        if self.choices:
            return all(word in self.choices for word in words)
        return all(
            re.fullmatch(r"[1-9][0-9]{0,17}|0", word) and _inside(int(word), self.interval)
            for word in words
        )


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
    is_list = False
    if clause := re.search(r"\b(one|words) of: *(.+)$", comment):
        is_list, words = clause[1] == "words", clause[2].split(",")
        choices = tuple(Parameter(name, kind, 0, "").read(word.strip()) for word in words)
    elif clause := re.search(rf"\b(numbers )?({_NUMBER}) to ({_NUMBER})$", comment):
        is_list = kind == "str" and bool(clause[1])
        interval = f"[{clause[2]}, {clause[3]}]"
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
    if is_list and kind != "str":
        raise ValueError("a list is a str")
    if kind in ("str", "bool") and interval and not is_list:
        raise ValueError(f"a {kind} takes choices, not a range")
    found = type(default).__name__
    if found != kind and not (kind == "float" and found == "int"):
        raise ValueError(f"its default {default!r} is no {kind}")
    parameter = Parameter(name, kind, default, doc, interval, choices, is_list)
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


def pairs(items: Iterable[str], option: str = "-p") -> list[tuple[str, str]]:
    """(name, text) of each ``name=value`` that an option of the command line was given."""
    out = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise Refused(f"{option} {item[:60]!r} is malformed; allowed: {option} name=value.")
        out.append((name, text))
    return out


_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool"))
# libyaml's parser, where PyYAML was built with it, is ten times as fast
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _compose(path: Path, most: int) -> yaml.Node | None:
    """The nodes of a YAML file of at most ``most`` bytes; no value is constructed from them."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise Refused(f"{path} is too large; allowed: at most {most} bytes.")
        text, depth = data.decode(), 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > 10:  # composing recurses, in libyaml without a limit
                raise Refused(f"{path} cannot be read as YAML: nested too deeply.")
        node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refused(f"{path} cannot be read as YAML: {error}.") from error
    return node


def pairs_from_yaml(path: Path) -> list[tuple[str, str]]:
    """(name, text) of each line of a YAML mapping of scalars; no value is constructed from it."""
    node = _compose(path, 1_000_000)
    if not isinstance(node, yaml.MappingNode):
        raise Refused(f"{path} is no mapping; allowed: lines of `name: value`.")
    for name, value in node.value:
        if not (isinstance(name, yaml.ScalarNode) and value.tag in _PLAIN):
            line = value.start_mark.line + 1
            raise Refused(f"{path}, line {line}: allowed: `name: value` with one number or text.")
    return [(name.value, value.value) for name, value in node.value]


Axes = list[tuple[str, list[str]]]


def grids_from_yaml(path: Path, most: int = 1_000_000) -> list[tuple[str, Axes]]:
    """The grids in a YAML file, each with its place: a mapping, or a list of them (or of points).

    A mapping's values are one number or text, or a list of them. ``most`` bounds the values in all,
    however short aliases make the file that writes them out.
    """
    node = _compose(path, 20_000_000)
    blocks = node.value if isinstance(node, yaml.SequenceNode) else [node]
    grids: list[tuple[str, Axes]] = []
    values = 0
    for block in blocks:
        if not isinstance(block, yaml.MappingNode):
            raise Refused(f"{path}: allowed: lines of `name: value`, or a list of such mappings.")
        axes: Axes = []
        for name, value in block.value:
            items = value.value if value.tag == "tag:yaml.org,2002:seq" else [value]
            values += len(items)
            if values > most:
                raise Refused(f"{path} writes out more than {most} values.")
            if not (isinstance(name, yaml.ScalarNode) and all(i.tag in _PLAIN for i in items)):
                line = value.start_mark.line + 1
                raise Refused(
                    f"{path}, line {line}: allowed: `name: value` with one number or text, or a "
                    "list of them."
                )
            axes.append((name.value, [item.value for item in items]))
        grids.append((f"{path}, line {block.start_mark.line + 1}", axes))
    return grids
