"""Run a page's cells in the browser as a notebook does: what they print, draw and return."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from pyodide.code import eval_code

# The list of fonts that this build of matplotlib carries is marked for a newer one; left so, it
# would be made anew at every start, in ten seconds.
if matplotlib := importlib.util.find_spec("matplotlib"):
    fonts = Path(str(matplotlib.origin)).with_name("fontlist.json")
    fonts.write_text(fonts.read_text().replace('"_version": 390', '"_version": 330'))

READ = {"int": int, "float": float, "str": str, "bool": lambda text: text.lower() == "true"}
outputs: list[dict[str, str]] = []  # of the cell that runs
names: dict[str, Any] = {}  # the page's
skipped: list[int] = []  # cells of this run that cannot run here


class Printed(io.TextIOBase):
    """Standard output: text joins the text before it, as in a notebook whose streams are merged."""

    def write(self, text: str) -> int:
        """Add to the cell's outputs."""
        if not outputs or outputs[-1]["kind"] != "text":
            outputs.append({"kind": "text", "data": ""})
        outputs[-1]["data"] += text
        return len(text)


def show(*_: object, **__: object) -> None:
    """Put the open figures out and close them, as a notebook does at `plt.show` and cells' ends."""
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        file = io.StringIO()
        plt.figure(number).savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
        outputs.append({"kind": "figure", "data": file.getvalue()})
    plt.close("all")


def run(number: int, source: str, values: str) -> str:
    """Run one cell, then set parameters, in JSON ``{name: [type, text]}``; say in JSON how it went.

    The first cell of a run has the number 1 and starts without names. The state is "done", "failed"
    or "elsewhere", for a cell that needs what no browser has, or what such a cell would have made.
    """
    outputs.clear()
    if number == 1:
        names.clear()
        skipped.clear()
    state, message, printed = "done", "", Printed()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            value = eval_code(source, names, filename=f"cell {number}")
            if "matplotlib.pyplot" in sys.modules:
                show()
            if value is not None:
                html = getattr(value, "_repr_html_", None)
                shown = ("html", html()) if html else ("text", repr(value))
                outputs.append(dict(zip(("kind", "data"), shown, strict=True)))
        except BaseException as error:  # noqa: BLE001 - whatever a cell raises is shown below it
            state, message = "failed", told(error, f"cell {number}")
            missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
            if missing and not missing.startswith("companion"):
                state, message = "elsewhere", f"it needs {missing}, and no browser has it"
            elif isinstance(error, NameError) and skipped:
                state, message = "elsewhere", f"it needs what cell {skipped[0]} would have made"
    for name, (kind, text) in json.loads(values).items():
        names[name] = READ[kind](text)
    if state == "elsewhere":
        skipped.append(number)
    return json.dumps({"state": state, "message": message, "outputs": outputs})


def told(error: BaseException, cell: str) -> str:
    """Write an error and the line of the cell that led to it."""
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == cell]
    where = f" (line {lines[-1]} of this cell)" if lines else ""
    return "".join(traceback.format_exception_only(error)).strip() + where


def answer(call: str, *given: str) -> str:
    """Say in JSON what one of the functions below says, or why it refuses."""
    try:
        return json.dumps({"said": {"convert": convert, "recheck": recheck}[call](*given)})
    except (ValueError, TypeError, OSError) as error:
        return json.dumps({"refused": str(error)})


def convert(name: str, bound: str, nonlinearity: str) -> str:
    """Turn a dropped network into ``unitary.safetensors``; the report of `companion convert`."""
    from companion import convert_file

    try:
        X = float(bound)
    except ValueError:
        raise ValueError(f"input bound is {bound!r}; allowed: a number of at least 0.") from None
    target = "unitary.safetensors"
    report = convert_file(name, target, X, nonlinearity=nonlinearity or None, overwrite=True)
    return str(report).rpartition("\n")[0]  # without the line that says where it was written


def recheck(name: str) -> str:
    """Check a dropped certificate again, from nothing but its numbers."""
    import companion

    return f"Proved again: {companion.recheck(name)}"


def certificate() -> str:
    """Give the certificate that the page has made, as it would be saved; nothing where none is."""
    found = names.get("certificate")
    if not hasattr(found, "save"):
        return ""
    found.save("certificate.json")
    return Path("certificate.json").read_text(encoding="utf-8")
