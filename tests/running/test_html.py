"""A built page as one file; how a rerun looks in a browser is tested with the browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from companion.running import html
from companion.running.page import load_page
from companion.running.record import Failed

PAGE = """<html><head>
<link rel="stylesheet" href="../_static/a.css?v=1"/>
<link rel="stylesheet" href="../_static/live/live.css"/>
<link rel="icon" href="../_static/favicon.svg"/>
<script defer src="../_static/late.js"></script>
<script src="../_static/searchtools.js"></script>
</head><body><div class="bd-sidebar-primary">menu</div>
<div class="live-bar">run</div>
<div class="live"><div class="live-drawing">figure</div></div>
<a href="record.json" data-beside>record</a>
<img src="../_images/p%20q.png"/>
<a href="other.html#x">other</a><a href="demo.html#y">here</a><a href="#z">near</a>
<a href="gone.html">gone</a><a href="https://example.org/">far</a>
</body></html>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    for name, content in {
        "notebooks/demo.html": PAGE,
        "_static/a.css": "@import 'b.css'; p { src: url('f.woff2'), url(f.ttf), url(data:x) }",
        "_static/b.css": "q { background: url(../_images/p%20q.png#frag) }",
        "_static/late.js": "let s = '</script>'",
        "_static/live.js": "drawn()",
        "_static/f.woff2": "font",
        "_static/f.ttf": "large",
        "_images/p q.png": "picture",
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(content)
    return made


def test_all_that_a_page_names_is_in_it(site: Path, tmp_path: Path) -> None:
    book = tmp_path / "book"
    (book / "notebooks").mkdir(parents=True)
    (book / "notebooks/other.html").touch()
    page = site / "notebooks/demo.html"
    text = html._one_file(page, book, "")
    for left in ("_static", "_images", "menu", ">run<", "searchtools", ".ttf", "@import"):
        assert left not in text, left
    assert text.count("data:image/png;base64,") == 2
    assert "data:font/woff2;base64," in text
    assert "<\\/script>" in text
    assert text.index("drawn()") > text.index(">figure<")  # as a script that is deferred
    assert f'href="{book.as_uri()}/notebooks/other.html#x"' in text
    assert 'href="#y"' in text
    assert 'href="#z"' in text
    assert 'href="https://example.org/"' in text
    assert "<span>gone</span>" in text
    assert '<a data-beside="" href="record.json">record</a>' in text  # it lies beside the page
    address = html._one_file(page, tmp_path / "no book", "https://example.org/b/")
    assert 'href="https://example.org/b/notebooks/other.html#x"' in address


def test_the_note_says_what_differs_from_the_book(
    tmp_path: Path, make_checkout: Callable[..., Path], write_page: Callable[..., Path]
) -> None:
    root = make_checkout(tmp_path / "checkout")
    write_page(root, "demo", "n: int = 4  # states, 1 to 64\nm: int = 2  # more, 1 to 9", "n")
    run = load_page(root, "demo").run([("n", "5")])
    nbformat.write(run.page.notebook(), tmp_path / "demo.ipynb")
    (tmp_path / "record.json").write_text(json.dumps({"finished": "2026-01-02T03:04:05"}))
    nb = nbformat.reads(html._explained(run, tmp_path, "book"), as_version=4)
    title, note = nb.cells[0].source.split("\n", 1)
    assert title == "# Demo"
    assert "A rerun, 2026-01-02" in note
    assert "With `n = 5` (the book has `4`), `m = 2`." in note
    assert "the text is the book's" in note


def test_the_note_stands_below_the_title_and_shows_values_as_they_are(
    tmp_path: Path, make_checkout: Callable[..., Path], write_page: Callable[..., Path]
) -> None:
    """Whatever stands above the title, and whatever stands in a value."""
    root = make_checkout(tmp_path / "checkout")
    path = write_page(root, "demo", 's: str = "x"  # a text', "s")
    path.write_text(path.read_text().replace("# Demo", "(target)=\n# Demo"))
    run = load_page(root, "demo").run([("s", "a`b``$x$ <b>")])
    nbformat.write(run.page.notebook(), tmp_path / "demo.ipynb")
    (tmp_path / "record.json").write_text(json.dumps({"finished": "2026-01-02T03:04:05"}))
    nb = nbformat.reads(html._explained(run, tmp_path, "page"), as_version=4)
    lines = nb.cells[0].source.splitlines()
    assert lines[:2] == ["(target)=", "# Demo"]
    assert "``` s = 'a`b``$x$ <b>' ``` (the page has `'x'`)" in nb.cells[0].source


def test_where_there_is_no_book_it_is_said(
    tmp_path: Path, make_checkout: Callable[..., Path], write_page: Callable[..., Path]
) -> None:
    root = make_checkout(tmp_path / "checkout")
    write_page(root, "demo", "n: int = 4  # states, 1 to 64", "n")
    run = load_page(root, "demo").run()
    with pytest.raises(Failed, match=r"no page was made: .*_config.yml is missing"):
        html.write_html(run, root, tmp_path, root / ".cache")
