"""What the edge runs look for is found where it is, and only there."""

from __future__ import annotations

import ast
import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
from matplotlib.axes import Axes

from companion.running.page import load_page, parsed
from tests.edges.cases import BASE, NEARER, cases
from tests.edges.reading import empty_axes, faults, lacking
from tests.edges.run import summary
from tests.edges.warm import SIZES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page for path in sorted((ROOT / "notebooks").glob("*.md"))
    if (page := load_page(ROOT, path.stem))
]  # fmt: skip
NAN = float("nan")


def drawn(draw: Callable[[Axes], object]) -> str:
    fig, ax = plt.subplots()
    draw(ax)
    file = io.StringIO()
    fig.savefig(file, format="svg")
    plt.close(fig)
    return file.getvalue()


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: ax.plot([1, 2], [1, 2]),
        lambda ax: ax.plot([1], [1], "o"),
        lambda ax: ax.bar([1, 2], [1, 2]),
        lambda ax: ax.scatter([1], [1]),
        lambda ax: ax.fill_between([0, 1], [0, 0], [1, 2]),
        lambda ax: ax.text(0.5, 0.5, "nothing to show"),
        lambda ax: ax.imshow([[1, 2], [3, 4]]),
        lambda ax: ax.set_axis_off(),
    ],
)
def test_axes_with_something_in_them(draw: Callable[[Axes], object]) -> None:
    assert not empty_axes(drawn(draw))


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: ax.set_xlabel("nothing"),
        lambda ax: ax.plot([], []),
        lambda ax: ax.plot([1, 2], [NAN, NAN], label="lost"),
        lambda ax: (ax.plot([], [], label="lost"), ax.legend()),
        lambda ax: ax.scatter([1, 2], [NAN, NAN]),
        lambda ax: ax.set_title("nothing"),
    ],
)
def test_axes_with_nothing_in_them(draw: Callable[[Axes], object]) -> None:
    assert empty_axes(drawn(draw))


def executed(**output: object) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.from_dict(output)])
    return nbformat.v4.new_notebook(cells=[cell])


def displayed(**data: str) -> nbformat.NotebookNode:
    named = {kind.replace("_", "/", 1): text for kind, text in data.items()}
    return executed(output_type="display_data", data=named, metadata={})


def test_what_a_reader_would_take_for_a_mistake() -> None:
    stderr = executed(output_type="stream", name="stderr", text="RuntimeWarning: overflow")
    assert "writes to stderr" in faults(stderr)[0]
    for shown in ("mean: nan", "[1.0, nan]", "R² nan."):
        said = executed(output_type="stream", name="stdout", text=shown)
        assert "shows nan" in faults(said)[0]
    assert "shows nan" in faults(displayed(text_html="<td>nan</td>"))[0]
    empty = drawn(lambda ax: ax.plot([], []))
    assert "empty axes" in faults(displayed(**{"image_svg+xml": empty}))[0]
    frame = base64.b64encode(empty.encode()).decode()
    slider = displayed(text_html=f'<img src="data:image/svg+xml;base64,{frame}">')
    assert "empty axes" in faults(slider)[0]
    titled = drawn(lambda ax: (ax.plot([1, 2]), ax.set_title("mean nan")))
    assert "shows nan" in faults(displayed(**{"image_svg+xml": titled}))[0]


def test_words_that_only_look_like_one() -> None:
    said = executed(output_type="stream", name="stdout", text="nanosecond, Fernan, nan-safe: 1.0")
    assert faults(said) == []


def test_results_for_the_table_of_runs(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    assert lacking(tmp_path, {}) == ["it leaves no values.json"]
    path.write_text(json.dumps([{"gap": NAN}]))
    assert "NaN is no number" in lacking(tmp_path, {})[0]
    path.write_text("{}")
    assert lacking(tmp_path, {}) == ["values.json has no columns"]
    path.write_text(json.dumps({"n": 2}))
    assert lacking(tmp_path, {"n": 2}) == ["values.json has the column n"]
    path.write_text(json.dumps([{"gap": 0.5}, {"gap": 1.0}]))
    assert lacking(tmp_path, {"n": 2}) == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.parameters], ids=lambda p: p.name)
def test_cases_reach_both_ends_of_every_parameter(page) -> None:  # type: ignore[no-untyped-def]
    found = [page.run(case.given).values for case in cases(page)]
    for parameter in page.parameters:
        if not parameter.is_file:
            values = {given[parameter.name] for given in found}
            assert len(values) >= 2, f"{page.name}: {parameter.name} is tried at {values}"


def test_what_stands_for_long_ends_names_parameters_and_ends_that_exist() -> None:
    known = {page.name: {p.name for p in page.parameters} for page in PAGES}
    assert all(BASE[name].keys() <= known[name] for name in BASE)
    assert all(name in known[page] for page, name in NEARER)
    assert SIZES.keys() <= known.keys()


def test_a_summary_counts_each_page_by_itself() -> None:
    ends = {("a", "1"): "ok", ("a", "2"): "wrong", ("b", "1"): "refused"}
    rows = summary([
        {"page": page, "given": {"seed": seed}, "how": how, "seconds": 2.5, "text": "t"}
        for (page, seed), how in ends.items()
    ])  # fmt: skip
    assert [(row["page"], row["cases"], row["seeds"], row["wrong"]) for row in rows] == [
        ("a", 2, 2, 1), ("b", 1, 1, 0),
    ]  # fmt: skip
    assert (rows[0]["seconds"], rows[0]["text"]) == (5, "t")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_failing_assertion_says_what_was_expected(page) -> None:  # type: ignore[no-untyped-def]
    for cell in page.notebook().cells:
        for node in ast.walk(parsed(cell.source)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.Assert):
                assert node.msg is not None, f"{page.name}: {ast.unparse(node)}"
