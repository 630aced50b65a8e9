"""A rerun as a page: built as the book is, then put into one file that needs nothing beside it.

Run as a module, it is the build alone, in a process of its own.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import yaml
from filelock import FileLock

from companion.running.page import Run
from companion.running.record import Failed
from companion.theory.files import write_whole

# What a single page has no use for: the site's navigation, its search, what runs it in place.
_LEFT_OUT = (
    ".bd-sidebar-primary, .primary-toggle, .search-button, #pst-search-dialog, .prev-next-footer, "
    ".dropdown-download-buttons, .dropdown-source-buttons, .dropdown-launch-buttons, "
    ".live-bar, .skip-link, link:not([rel=stylesheet])"
)
_SCRIPTS_LEFT_OUT = re.compile(r"search|language_data|live/|companion\.js")
# What the site's own script loads where a page has such a figure.
_FIGURES = {
    ".live": ("live.js",),
    ".explore": ("d3/d3.min.js", "plot/plot.umd.min.js", "explore.js"),
}


def write_html(run: Run, root: Path, folder: Path, cache: Path) -> Path:
    """Build the page of a finished run; returns the file, ``NAME.html`` beside the notebook.

    Raises
    ------
    Failed : what builds the book is not installed, or did not build this page (says why).
    """
    name = run.page.name
    if find_spec("jupyter_book") is None or find_spec("bs4") is None:
        raise Failed("no page was made: it takes the book's packages, pip install -e '.[book]'")
    config = root / "book" / "_config.yml"
    if not config.is_file():
        raise Failed(f"no page was made: {config} is missing")
    place = cache / "html"
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):
        source, whose = _source(root, place / "source", name)
        page = source / "notebooks" / f"{name}.ipynb"
        page.unlink(missing_ok=True)
        page.write_text(_explained(run, folder, whose), encoding="utf-8")
        made = place / "site" / "notebooks" / f"{name}.html"
        made.unlink(missing_ok=True)
        parents = str(Path(__file__).parents[2])
        command = [sys.executable, "-P", "-m", __name__, str(source), str(place), name]
        done = subprocess.run(  # noqa: S603  # this interpreter, this module
            command, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": parents, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        if not made.is_file():
            raise Failed(f"no page was made: {(done.stderr or done.stdout)[-600:].strip()}")
        html = yaml.safe_load(config.read_text("utf-8")).get("html") or {}
        text = _one_file(made, root / "book" / "_build" / "html", html.get("baseurl") or "")
    write_whole(folder / f"{name}.html", text)
    return folder / f"{name}.html"


def _source(root: Path, source: Path, name: str) -> tuple[Path, str]:
    """Make links that look like the checkout, for one page; say whose its text is, book or page."""
    (source / "notebooks").mkdir(parents=True, exist_ok=True)
    for folder in (source, source / "notebooks"):
        for link in folder.iterdir():
            if link.is_symlink() or link.suffix == ".ipynb":
                link.unlink()
    for path in root.iterdir():
        if path.name[0] != "." and path.name not in ("notebooks", "runs"):
            (source / path.name).symlink_to(path)
    for path in (root / "notebooks").iterdir():
        if path.suffix != ".md":
            (source / "notebooks" / path.name).symlink_to(path)
    toc = (root / "book" / "_toc.yml").read_text("utf-8")
    own = not re.search(rf"notebooks/{name}\s*$", toc, re.MULTILINE)
    if own:
        toc += f"  - caption: Own pages\n    chapters:\n      - file: notebooks/{name}\n"
    (source / "toc.yml").write_text(toc, encoding="utf-8")
    return source, "page" if own else "book"


def _explained(run: Run, folder: Path, whose: str) -> str:
    """Return the run's notebook with a note at its top that says what it is."""
    record = json.loads((folder / "record.json").read_text("utf-8"))
    nb = nbformat.read(folder / f"{run.page.name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]

    def code(text: str) -> str:  # between more backticks than stand in it
        fence, space = "`" * (1 + max(map(len, re.findall("`*", text)))), " " * ("`" in text)
        return f"{fence}{space}{text}{space}{fence}"

    given = [(p.name, run.values[p.name], p.default) for p in run.page.parameters]
    rows = [
        code(f"{name} = {value!r}")
        + f" (the {whose} has {code(repr(default))})" * (value != default)
        for name, value, default in given
    ]
    note = (
        f"\n:::{{admonition}} A rerun, {record['finished'][:10]}\n:class: important\n"
        f"With {', '.join(rows) or 'no parameters'}. Numbers, figures and checks are this run's; "
        f"the text is the {whose}'s, which was written at its own parameters.\n:::\n"
    )
    first = next(cell for cell in nb.cells if cell.cell_type == "markdown")
    title = re.search(r"^#.*$", first.source, re.MULTILINE)
    end = title.end() if title else 0
    first.source = f"{first.source[:end]}\n{note}\n{first.source[end:]}"
    nb.metadata["companion"] = {**nb.metadata.get("companion", {}), **record}
    text: str = nbformat.writes(nb)  # type: ignore[no-untyped-call]  # as nbformat leaves it
    return text


def _data(path: Path) -> str:
    """Return a file as an address that holds its content."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _style(path: Path) -> str:
    """Return a style sheet with the files it names inside it; of fonts, the smallest format."""

    def put(match: re.Match[str]) -> str:
        address = match[1].strip("'\" ")
        file = path.parent / unquote(re.split("[?#]", address)[0])
        if address.startswith(("data:", "#")):
            return match[0]
        wanted = file.is_file() and file.suffix not in (".ttf", ".woff", ".eot")
        return f"url({_data(file) if wanted else 'data:,'})"

    text = re.sub(r"/\*# sourceMappingURL.*?\*/", "", path.read_text("utf-8"))
    more = r"@import (?:url\()?[\"']([^\"':]+)[\"']\)?;"
    text = re.sub(more, lambda match: _style(path.parent / match[1]), text)
    return re.sub(r"url\(([^)]*)\)", put, text)


def _one_file(page: Path, site: Path, address: str) -> str:
    """Put styles, scripts, fonts and pictures into a page; lead its links to the book."""
    from bs4 import BeautifulSoup

    soup: Any = BeautifulSoup(page.read_text("utf-8"), "html.parser")

    def file(url: str) -> Path:
        return (page.parent / unquote(re.split("[?#]", url)[0])).resolve()

    def script(path: Path) -> str:
        return path.read_text("utf-8").replace("</script", r"<\/script")

    for tag in soup.select(_LEFT_OUT):
        tag.decompose()
    for tag in soup.select("link[rel=stylesheet]"):
        tag.replace_with(style := soup.new_tag("style"))
        style.string = "" if "live/" in tag["href"] else _style(file(tag["href"]))
    for tag in soup.select("script[src]"):
        url = tag.attrs.pop("src")
        if _SCRIPTS_LEFT_OUT.search(url):
            tag.decompose()
            continue
        tag.string = script(file(url))
        if "defer" in tag.attrs:  # which holds for files alone
            soup.body.append(tag.extract())
    for name in (name for kind, names in _FIGURES.items() if soup.select(kind) for name in names):
        soup.body.append(last := soup.new_tag("script"))
        last.string = script(page.parents[1] / "_static" / name)
    for tag in soup.select("img[src], source[src]"):
        if not tag["src"].startswith("data:"):
            tag["src"] = _data(file(tag["src"]))
    for tag in soup.select("a[href]"):
        url, hash_, place = tag["href"].partition("#")
        if re.match(r"[a-z]+:", url) or not url or "data-beside" in tag.attrs:
            continue
        there = os.path.relpath(file(url), page.parents[1].resolve())
        if file(url) == page.resolve():
            tag["href"] = hash_ + place
        elif (site / there).is_file():
            tag["href"] = (site / there).as_uri() + hash_ + place
        elif address:
            tag["href"] = f"{address.rstrip('/')}/{there}{hash_}{place}"
        else:
            tag.name, tag.attrs = "span", {}
    return str(soup)


def _build(source: str, place: str, name: str) -> None:
    """Build one page as the book is built, the others being read for their numbers and titles."""
    from jupyter_book.sphinx import build_sphinx

    given = {"latex_individualpages": False, "external_toc_path": f"{source}/toc.yml"}
    build_sphinx(
        source, f"{place}/site", path_config=f"{source}/book/_config.yml", noconfig=True,
        confoverrides=given, doctreedir=f"{place}/doctrees",
        filenames=[f"{source}/notebooks/{name}.ipynb"], quiet=True, keep_going=True,
    )  # fmt: skip


if __name__ == "__main__":
    _build(*sys.argv[1:])
