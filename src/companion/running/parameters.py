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

Types are int, float, str and bool; an int or a float needs a range or choices. An int without a
bound ends at 2^63, as tables of 64 bits do. ``words of`` and ``numbers`` stand for a list with
spaces between, in which nothing is twice; ``path of`` for a file, whose content is then part of
what a run is named after.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from annotated_types import Interval
from pydantic import AfterValidator, AllowInfNan, BeforeValidator, TypeAdapter, ValidationError

from companion.running.record import Refused

Value = int | float | str | bool
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_KINDS = {"int": int, "float": float, "str": str, "bool": bool}
_SPELT = {"int": r"[+-]?\d{1,1000}", "float": _NUMBER, "bool": "true|false", "str": ".+"}
_HOW = "end it with `1 to 64`, `in (0, 1]`, `in [0, inf)` or `one of: a, b`"


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: name, type, default, meaning, and what is allowed."""

    name: str
    type: str
    default: Value
    doc: str
    allowed: str
    item: Any = field(repr=False, compare=False)  # reads the value, or each word of a list
    is_list: bool = False

    @property
    def is_file(self) -> bool:
        """Whether a value other than the default is the path of a file."""
        return self.type == "str" and bool(re.search(r"\bpath of\b", self.doc))

    def read(self, text: str) -> Value:
        """Return the value that ``text`` writes out, or raise `Refused` naming what is allowed."""
        words = text.split(" ") if self.is_list else [text]
        try:
            values: list[Value] = self.item.validate_python(words)
        except ValidationError:
            values = []
        if not values or (self.is_list and len({*map(str, values)} & {*words}) < len(words)):
            shown = text if len(text) <= 60 else text[:57] + "…"
            raise Refused(f"parameter {self.name} is {shown!r}; allowed: {self.allowed}.")
        return text if self.is_list else values[0]


def _adapter(kind: str, *more: Any) -> TypeAdapter[Any]:
    """Return what reads a list of values of one type, spelt plainly, under more conditions."""

    def spelt(text: str) -> str:
        flags = re.ASCII | (re.IGNORECASE if kind == "bool" else 0)
        if not (text.isprintable() and re.fullmatch(_SPELT[kind], text, flags)):
            raise ValueError
        return text

    finite = [AllowInfNan(False)] if kind == "float" else []
    read: Any = Annotated[(_KINDS[kind], *finite, *more, BeforeValidator(spelt))]
    return TypeAdapter(list[read])


def _among(choices: list[Any]) -> Callable[[Any], Any]:
    """Return a check that lets only ``choices`` pass."""

    def check(value: Any) -> Any:
        if value not in choices:
            raise ValueError
        return value

    return check


def _interval(kind: str, text: str) -> tuple[str, Interval]:
    """Read ``[0, 1)`` as a condition; return it with the text that shows it."""
    low, high = (end.strip() for end in text[1:-1].split(","))
    if kind == "int" and high == "inf":
        high, text = str(2**63), f"{text[0]}{low}, 2^63)"
    ends = [(int if re.fullmatch(r"[+-]?\d+", end) else float)(end) for end in (low, high)]
    names = ("ge" if text[0] == "[" else "gt", "le" if text[-1] == "]" else "lt")
    return text, Interval(**dict(zip(names, ends, strict=True)))


def _parameter(line: str) -> Parameter:
    """Read one line of the cell; ValueError says what is wrong."""
    from papermill.translators import PythonTranslator

    found = PythonTranslator.inspect({"source": line}) if line.count("=") == 1 else ()
    if not found or found[0].inferred_type_name not in _KINDS:
        raise ValueError(
            "it is not `name: type = default  # comment` with type int, float, str or bool and "
            f"no other =; where its comment says what is allowed, {_HOW}"
        )
    name, kind, default, comment = found[0]
    accepts, is_list, interval = _adapter(kind), False, None
    allowed = {"bool": "true or false", "str": "text of printable characters"}.get(kind, kind)
    if clause := re.search(r"\b(one|words) of: *(.+)$", comment):
        plain = Parameter(name, kind, 0, "", allowed, accepts)
        choices = [plain.read(word.strip()) for word in clause[2].split(",")]
        is_list, shown = clause[1] == "words", ", ".join(map(str, choices))
        accepts = _adapter(kind, AfterValidator(_among(choices)))
        allowed = f"of {shown}" if is_list else f"one of {shown}"
    elif clause := re.search(
        rf"\b(?:(numbers )?({_NUMBER}) to ({_NUMBER})|"
        rf"in ([\[(] *(?:{_NUMBER}|-inf), *(?:{_NUMBER}|inf) *[\])]))$",
        comment,
    ):
        is_list = kind == "str" and bool(clause[1])
        text, interval = _interval(kind, clause[4] or f"[{clause[2]}, {clause[3]}]")
        accepts = _adapter("int" if is_list else kind, interval)
        allowed = f"whole numbers in {text}" if is_list else f"{kind} in {text}"
    doc = comment[: clause.start()].rstrip(" ,;:") if clause else comment
    if re.search(r"[<>=]|one of|\bin [\[(]", doc):
        raise ValueError(f"what its comment allows is not understood: {_HOW}")
    if not doc:
        raise ValueError("its comment does not say what it means")
    if (is_list and kind != "str") or (kind in ("str", "bool") and interval and not is_list):
        raise ValueError(f"what its comment allows does not go with {kind}")
    if kind in ("int", "float") and not clause:
        raise ValueError(f"it lacks a range or choices: {_HOW}")
    if is_list:
        allowed = f"a list with spaces between, {allowed}, none twice"
    parameter = Parameter(name, kind, 0, doc, allowed, accepts, is_list)
    value = ast.literal_eval(default)
    if type(value) is not _KINDS[kind] and not (kind == "float" and type(value) is int):
        raise ValueError(f"its default is no {kind}")
    return replace(parameter, default=parameter.read(str(value)))


def parse_parameters(cell: str) -> tuple[Parameter, ...]:
    """Read the parameters that a cell declares, by the convention at the top of this module.

    Raises
    ------
    Refused : names the first line that does not follow it.
    """
    found: dict[str, Parameter] = {}
    for line in filter(None, (row.partition("#")[0].strip() and row for row in cell.splitlines())):
        try:
            parameter = _parameter(line)
            if parameter.name in found:
                raise ValueError("it stands there twice")
        except (ValueError, SyntaxError) as error:
            raise Refused(f"line `{line.strip()}` of the parameters cell: {error}.") from error
        found[parameter.name] = parameter
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
        with path.expanduser().open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise Refused(f"{path} is too large; allowed: at most {LARGEST} bytes.")
        text, depth = data.decode(), 0
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
