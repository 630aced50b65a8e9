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

Types are int, float, str and bool; an int or a float needs a range or choices. An int without an
upper bound ends below 2^63, as numbers in tables do. ``words of`` and ``numbers`` stand for a list
with spaces between, in which nothing is twice; ``path of`` for a file, whose content is then part
of what a run is named after.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from companion.running.record import Refused

Value = int | float | str | bool
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_SPELT = {"int": r"[+-]?\d{1,1000}", "float": _NUMBER, "bool": "(?i:true|false)", "str": ".+"}
_HOW = "end it with `1 to 64`, `in (0, 1]`, `in [0, inf)` or `one of: a, b`"


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: name, type, default, meaning, and what is allowed.

    All of it is data, so that a page in a browser checks as this does.
    """

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
        shown = ", ".join(map(str, self.choices))
        if self.is_list:
            items = f"of {shown}" if shown else f"whole numbers in {self.interval}"
            return f"a list with spaces between, {items}, none twice"
        if shown or self.interval:
            return f"one of {shown}" if shown else f"{self.type} in {self.interval}"
        plain = {"bool": "true or false", "str": "text of printable characters, not empty"}
        return plain.get(self.type, self.type)

    def read(self, text: str) -> Value:
        """Return the value that ``text`` writes out, or raise `Refused` naming what is allowed."""
        words = text.split(" ") if self.is_list else [text]
        values = [self._value(word) for word in words]
        if None in values or (self.is_list and len({*map(str, values)} & {*words}) < len(words)):
            shown = text if len(text) <= 60 else text[:57] + "…"
            raise Refused(f"parameter {self.name} is {shown!r}; allowed: {self.allowed}.")
        return text if self.is_list else values[0]  # type: ignore[return-value]  # not None

    def _value(self, text: str) -> Value | None:
        """Read one value, spelt plainly; None where it is not allowed."""
        kind = "int" if self.is_list and self.interval else self.type
        if not (text.isprintable() and re.fullmatch(_SPELT[kind], text, re.ASCII)):
            return None
        if kind == "bool":
            return text.lower() == "true"
        value: Any = {"int": int, "float": float, "str": str}[kind](text)
        finite = kind != "float" or math.isfinite(value)
        inside = not self.interval or _inside(value, self.interval)
        return value if finite and inside and value in (self.choices or (value,)) else None


def _inside(value: float, interval: str) -> bool:
    """Say whether a number lies in ``[0, 1)`` or the like."""
    low, high = (
        (int if re.fullmatch(r" *[+-]?\d+ *", end) else float)(end)
        for end in interval[1:-1].split(",")
    )
    above = value >= low if interval[0] == "[" else value > low
    return bool(above and (value <= high if interval[-1] == "]" else value < high))


def _parameter(line: str) -> Parameter:
    """Read one line of the cell; ValueError says what is wrong."""
    from papermill.translators import PythonTranslator

    found = PythonTranslator.inspect({"source": line}) if line.count("=") == 1 else ()
    if not found or found[0].inferred_type_name not in _SPELT:
        raise ValueError(
            "it is not `name: type = default  # comment` with type int, float, str or bool and "
            f"no other =; where its comment says what is allowed, {_HOW}"
        )
    name, kind, default, comment = found[0]
    read = Parameter(name, kind, 0, "")
    if clause := re.search(r"\b(one|words) of: *(.+)$", comment):
        choices = tuple(read.read(word.strip()) for word in clause[2].split(","))
        read = replace(read, choices=choices, is_list=clause[1] == "words")
    elif clause := re.search(
        rf"\b(?:(numbers )?({_NUMBER}) to ({_NUMBER})|"
        rf"in ([\[(] *(?:{_NUMBER}|-inf), *(?:{_NUMBER}|inf) *[\])]))$",
        comment,
    ):
        interval = clause[4] or f"[{clause[2]}, {clause[3]}]"
        if kind == "int":
            interval = re.sub(r"inf *[\])]$", f"{2**63 - 1}]", interval)
        read = replace(read, interval=interval, is_list=kind == "str" and bool(clause[1]))
    doc = comment[: clause.start()].rstrip(" ,;:") if clause else comment
    if re.search(r"[<>=]|one of|\bin [\[(]", doc):
        raise ValueError(f"what its comment allows is not understood: {_HOW}")
    if not doc:
        raise ValueError("its comment does not say what it means")
    number = kind in ("int", "float")
    if (read.is_list and kind != "str") or (read.interval and not number and not read.is_list):
        raise ValueError(f"what its comment allows does not go with {kind}")
    if number and not clause:
        raise ValueError(f"it lacks a range or choices: {_HOW}")
    value = ast.literal_eval(default)
    if type(value).__name__ != kind and not (kind == "float" and type(value) is int):
        raise ValueError(f"its default is no {kind}")
    # a default out of its own range is refused too, and `float = 1` becomes 1.0
    return replace(read, doc=doc, default=read.read(str(value)))


def parse_parameters(cell: str) -> tuple[Parameter, ...]:
    """Read the parameters that a cell declares, by the convention at the top of this module.

    Raises
    ------
    Refused : names the first line that does not follow it.
    """
    found: dict[str, Parameter] = {}
    for line in cell.splitlines():
        if not line.partition("#")[0].strip():
            continue
        try:
            parameter = _parameter(line)
            if found.setdefault(parameter.name, parameter) is not parameter:
                raise ValueError("it stands there twice")
        except (ValueError, SyntaxError) as error:
            raise Refused(f"line `{line.strip()}` of the parameters cell: {error}.") from error
    return tuple(found.values())


def pairs(items: Iterable[str], option: str = "-p") -> list[tuple[str, str]]:
    """Split each ``name=value`` that an option of the command line was given."""
    out = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise Refused(f"{option} {item[:60]!r} is malformed; allowed: {option} name=value.")
        out.append((name, text))
    return out


class _Texts(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]  # either of two
    """Reads every scalar as text: no tag constructs anything, and ``0:30`` is not base 60."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        if len({str(name.value) for name, _ in node.value}) < len(node.value):
            raise yaml.YAMLError("a name is given twice")
        found: dict[str, Any] = super().construct_mapping(node, deep)
        return found


Axes = list[tuple[str, list[str]]]
LARGEST = 4_000_000
"""Bytes of a file of parameters."""


def grids_from_yaml(path: Path, most: int = 1_000_000) -> list[tuple[str, Axes]]:
    """Read the grids in a YAML file, each with its place: a mapping, or a list of them (points).

    A mapping's values are one number or text, or a list of them. ``most`` bounds the values in all,
    however short aliases make the file that writes them out.

    Raises
    ------
    Refused : the file is too large, too deep, or of another form.
    """
    try:
        path, depth = path.expanduser(), 0
        if not path.is_file():  # a pipe or a device would never end
            raise OSError("it is not a file")
        if path.stat().st_size > LARGEST:
            raise Refused(f"{path} is too large; allowed: at most {LARGEST} bytes.")
        text = path.read_bytes().decode()
        for event in yaml.parse(text, Loader=_Texts):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > 10:  # loading recurses, in libyaml without a limit
                raise Refused(f"{path} cannot be read as YAML: nested too deeply.")
        found = yaml.load(text, Loader=_Texts)  # noqa: S506  # see there
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refused(f"{path} cannot be read as YAML: {error}.") from error
    grids: list[tuple[str, Axes]] = []
    for number, block in enumerate(found if isinstance(found, list) else [found], 1):
        where = f"{path}, entry {number}" if isinstance(found, list) else f"{path}"
        pairs = block.items() if isinstance(block, dict) else ()
        rows = [(name, value if isinstance(value, list) else [value]) for name, value in pairs]
        most -= sum(len(values) for _, values in rows)
        if most < 0:
            raise Refused(f"{path} writes out too many values.")
        if not rows or not all(isinstance(x, str) for name, row in rows for x in (name, *row)):
            raise Refused(
                f"{where}: allowed: lines of `name: value` with one number or text, or a list of "
                "them; or a list of such mappings."
            )
        grids.append((where, rows))
    return grids


def pairs_from_yaml(path: Path) -> list[tuple[str, str]]:
    """Read the lines ``name: value`` of a YAML file."""
    blocks = grids_from_yaml(path)
    if len(blocks) > 1 or any(len(values) != 1 for _, values in blocks[0][1]):
        raise Refused(f"{path} holds several runs; allowed: one `name: value` a name.")
    return [(name, values[0]) for name, values in blocks[0][1]]
