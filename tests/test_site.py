"""The built site stands by itself: every link and anchor leads somewhere, and nothing is requested.

`make test` builds it first; alone, this file wants an earlier `make book`.
"""

from __future__ import annotations

import functools
import html
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "book/_build/html"

# Attributes whose address a browser loads by itself, as against one that a reader follows.
LOADED = {
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("image", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("link", "href"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("use", "href"),
    ("video", "poster"),
    ("video", "src"),
}
FOLLOWED = {("a", "href"), ("area", "href"), ("form", "action")}
CSS_ADDRESS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")


class Page(HTMLParser):
    """The addresses and the anchors of one page, and what scripts and styles stand in it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.loaded: list[str] = []
        self.followed: list[str] = []
        self.anchors: set[str] = set()
        self.inside: list[str] = []
        self.styles: list[str] = []
        self.classes: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.inside.append(tag)
        self.classes.update(given.get("class", "").split())
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        self.styles.append(given.get("style", ""))
        if tag == "link" and given.get("rel", "") in (
            "canonical",
            "index",
            "next",
            "prev",
            "search",
        ):
            return  # named, never loaded
        if tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            self.followed.append(given["content"].partition("url=")[2])
        for name, value in given.items():
            if (tag, name) in LOADED and value:
                self.loaded.append(value)
            elif (tag, name) in FOLLOWED and value:
                self.followed.append(value)

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] == "style":
            self.styles.append(data)


def files(suffix: str) -> list[Path]:
    found = sorted(SITE.rglob(f"*{suffix}"))
    assert found, f"{SITE} holds no {suffix} files: `make book` builds it"
    # the theme ships its own scaffolding as .html; it is never a page
    return [p for p in found if "macros" not in p.name]


@functools.cache
def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def faults(path: Path) -> Iterator[str]:
    """What is wrong with the addresses of one page."""
    parsed = page(path)
    in_styles = [a or b for text in parsed.styles for a, b in CSS_ADDRESS.findall(text)]
    for address in [*parsed.loaded, *in_styles]:
        if address.startswith("data:"):
            continue
        if urlsplit(address).scheme or address.startswith("//"):
            yield f"loads {address}"
        elif not (path.parent / unquote(urlsplit(address).path)).is_file():
            yield f"loads {address}, which is missing"
    for address in parsed.followed:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https", "mailto"):
            continue
        if parts.scheme or parts.netloc or parts.path.startswith("/"):
            yield f"links to {address}, which is neither in the site nor on the web"
            continue
        target = path.parent / unquote(parts.path) if parts.path else path
        if not target.is_file():
            yield f"links to {address}, which is missing"
            continue
        anchor = unquote(parts.fragment) if target.suffix == ".html" else ""
        if anchor and anchor not in page(target.resolve()).anchors:
            yield f"links to {address}, which has no such anchor"


def test_no_link_is_broken_and_nothing_is_requested() -> None:
    found = [f"{p.relative_to(SITE)} {f}" for p in files(".html") for f in faults(p.resolve())]
    assert not found, "\n" + "\n".join(found)


def test_style_sheets_request_nothing() -> None:
    found = []
    for path in files(".css"):
        for a, b in CSS_ADDRESS.findall(path.read_text(encoding="utf-8")):
            address = a or b
            if address.startswith(("data:", "#")):
                continue
            local = not urlsplit(address).scheme and not address.startswith("//")
            if not local or not (path.parent / unquote(urlsplit(address).path)).is_file():
                found.append(f"{path.relative_to(SITE)}: {address}")
    assert not found, "\n".join(found)


def contents() -> list[str]:
    """Pages of the table of contents, chapters and parts alike."""

    def names(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (str(v) for k, v in node.items() if k in ("root", "file"))
            for value in node.values():
                yield from names(value)
        elif isinstance(node, list):
            for value in node:
                yield from names(value)

    return list(names(yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", contents())
def test_page_is_built_with_its_mathematics_typeset(name: str) -> None:
    html = (SITE / f"{name}.html").read_text(encoding="utf-8")
    # KaTeX marks what it cannot parse by a class, and prints a macro it does not know in this red
    assert "katex-error" not in page(SITE / f"{name}.html").classes
    assert "#cc0000" not in html
    assert not re.search(r"\\\(|\\\[", re.sub(r"(?s)<(script|annotation|pre).*?</\1>", "", html))


@pytest.mark.parametrize("name", [n for n in contents() if n.startswith("notebooks/")])
def test_executed_page_leads_to_its_notebook_and_text(name: str) -> None:
    links = page(SITE / f"{name}.html").followed
    for suffix in (".ipynb", ".md"):
        assert f"../_sources/{name}{suffix}" in links
        assert (SITE / f"_sources/{name}{suffix}").read_bytes() == (
            ROOT / f"{name}{suffix}"
        ).read_bytes()


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("notebooks/theorem-1", "theorem1"),
        ("notebooks/theorem-2", "theorem2"),
        ("notebooks/theorem-3", "theorem3"),
        ("notebooks/theorem-3", "theorem3_logistic"),
        ("book/proofs", "networks"),
        ("book/proofs", "ours2a"),
    ],
)
def test_page_shows_the_checked_statement_as_the_file_has_it(name: str, region: str) -> None:
    found = [
        re.search(rf"\(\* begin {region} \*\)\n(.*?)\(\* end {region} \*\)", text, re.DOTALL)
        for text in (path.read_text() for path in sorted((ROOT / "proofs").glob("Statements*.v")))
    ]
    (stated,) = [match[1].split() for match in found if match]
    shown = [
        html.unescape(re.sub(r"<[^>]*>", "", block)).split()
        for block in re.findall(r"<pre>(.*?)</pre>", (SITE / f"{name}.html").read_text(), re.DOTALL)
    ]
    assert stated in shown


CONFIG = yaml.safe_load((ROOT / "book/_config.yml").read_text(encoding="utf-8"))
MOVED = CONFIG["sphinx"]["config"].get("moved_pages", {})
ROWS = json.loads((ROOT / "book/results/claims.json").read_text(encoding="utf-8"))


def test_the_ledger_shows_every_claim_as_a_card() -> None:
    text = (SITE / "book/claims.html").read_text(encoding="utf-8")
    for row in ROWS:
        pattern = rf'<article [^>]*id="claim-{row["id"]}">(.*?)</article>'
        [card] = re.findall(pattern, text, re.DOTALL)
        shown = html.unescape(re.sub(r"<[^>]*>", "", card))
        for field in ("says", "rule", "where"):
            assert row[field] in shown, (row["id"], field)
        for name in row["runs"]:
            assert f'href="../_records/{name}.json"' in card
        for name in row["files"]:
            assert f'href="../_records/{name.removeprefix("book/results/")}"' in card


with pytest.MonkeyPatch.context() as patched:
    patched.syspath_prepend(str(ROOT / "book/_ext"))
    CLAIMS = runpy.run_path(str(ROOT / "book/_ext/claims.py"))


def render(view: str, rows: list[dict[str, object]]) -> str:
    return str(CLAIMS["render"](view, rows, {}, "../").astext())


def shown(view: str, rows: list[dict[str, object]]) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", render(view, rows)))


def test_the_summary_counts_every_claim_once() -> None:
    rows = CLAIMS["read"]()
    for view in ("summary", "outcome"):
        table = re.sub(r'<ul class="ledger-legend">.*', "", render(view, rows))
        counts = re.findall(r'class="tally">.*?</svg> (\d+) ', table, re.DOTALL)
        expected = rows if view == "summary" else [row for row in rows if row["where"]]
        assert sum(map(int, counts)) == len(expected)


@pytest.mark.parametrize("verdict", CLAIMS["VERDICTS"])
def test_every_verdict_has_a_shape_of_its_own_and_its_words(verdict: str) -> None:
    row = ROWS[0] | {"verdict": verdict, "why": "a reason", "section": "A section"}
    assert verdict in shown("cards", [row])
    assert f"1 {verdict}" in shown("summary", [row])
    drawn = [
        re.search(r"<svg [^>]*>(.*?)</svg>", render("here", [row | {"verdict": v}]))
        for v in CLAIMS["VERDICTS"]
    ]
    assert len({found[1] for found in drawn if found}) == len(CLAIMS["VERDICTS"])


@pytest.mark.parametrize("name", sorted({row["page"] for row in ROWS}))
def test_claims_and_their_page_link_to_each_other(name: str) -> None:
    rows = [row["id"] for row in ROWS if row["page"] == name]
    name = MOVED.get(name, name).partition("#")[0]
    links = page(SITE / f"{name}.html").followed
    back = (SITE / "book/claims.html").read_text(encoding="utf-8")
    for row in rows:
        assert f"../book/claims.html#claim-{row}" in links
        [card] = re.findall(rf'<article [^>]*id="claim-{row}">(.*?)</article>', back, re.DOTALL)
        assert f'href="../{name}.html"' in card


@pytest.mark.parametrize("name", [n for n in contents() if n.startswith("notebooks/")])
def test_executed_page_says_what_it_ran_on(name: str) -> None:
    text = (SITE / f"{name}.html").read_text(encoding="utf-8")
    [line] = re.findall(r'<aside class="executed".*?</aside>', text, re.DOTALL)
    notebook = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))
    record, stem = notebook["metadata"]["companion"], name.rpartition("/")[2]
    said = html.unescape(re.sub(r"<[^>]*>", "", line))
    environment = record["environment"]
    for part in (record["finished"][:10], record["source_tree"][:12], environment["cpu"]):
        assert part in said
    for parameter, value in record["parameters"].items():
        assert f"{parameter}={value}" in said
    assert f"companion run {stem}" in said
    assert json.loads((SITE / f"_records/pages/{stem}.json").read_text("utf-8")) == record
    assert f'href="../_records/pages/{stem}.json"' in line
    table = (SITE / "book/provenance.html").read_text(encoding="utf-8")
    assert f'<a href="../{name}.html">{stem}</a>' in table


def test_the_page_of_runs_has_the_command_that_makes_each_again() -> None:
    from companion.running import page as runs
    from companion.running import parameters

    text = html.unescape((SITE / "book/provenance.html").read_text(encoding="utf-8"))
    for path in sorted((ROOT / "book/results").glob("*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if "notebook" not in record:
            continue
        address = path.relative_to(ROOT / "book/results").as_posix()
        [row] = [r for r in re.findall(r"<tr>.*?</tr>", text) if f"_records/{address}" in r]
        [command] = re.findall(r"<code>(companion run .*?)</code>", row)
        words = shlex.split(command)
        given = parameters.pairs(words[i + 1] for i, word in enumerate(words) if word == "-p")
        run = runs.load_page(ROOT, words[2]).run(given)
        # what a page has got since is at its default
        assert record["parameters"].items() <= dict(run.values).items()


def test_every_reference_is_cited_and_says_what_it_was_compared_with() -> None:
    bib = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    entries = dict(re.findall(r"^@\w+\{(\w+),\n(.*?)^\}", bib, re.MULTILINE | re.DOTALL))
    sources = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.md")]
    roles = re.findall(
        r"\{cite(?::\w+)?\}`([\w,]+)`", "".join(p.read_text(encoding="utf-8") for p in sources)
    )
    assert {key for keys in roles for key in keys.split(",")} == entries.keys()
    for key, entry in entries.items():
        fields = dict(re.findall(r"^  (\w+) += \{(.*)\},$", entry, re.MULTILINE))
        assert {"author", "title", "year", "note"} <= fields.keys(), key
        assert {"journal", "booktitle", "eprint"} & fields.keys(), key
        assert re.match("Compared with (the paper|its|other)|Not compared: no copy", fields["note"])
    text = (SITE / "book/references.html").read_text(encoding="utf-8")
    [listed] = re.findall(r'class="citation-list">(.*?)</section>', text, re.DOTALL)
    shown = html.unescape(re.sub(r"<[^>]*>", "", listed))
    assert not re.search(r"[{}$\\]", shown), "raw markup in a reference"


def test_every_notebook_is_in_the_contents() -> None:
    pages = {f"notebooks/{p.stem}" for p in (ROOT / "notebooks").glob("*.md")}
    assert pages - MOVED.keys() == {n for n in contents() if n.startswith("notebooks/")}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "loads https"),
        ('<img src="//cdn.example/x.png">', "loads //"),
        ('<p style="background: url(http://example.org/x.png)">', "loads http"),
        ('<link rel="stylesheet" href="gone.css">', "is missing"),
        ('<a href="gone.html">', "is missing"),
        ('<a href="#gone">', "no such anchor"),
        ('<a href="/gone.html">', "neither in the site"),
        ('<a href="https://example.org">', None),
        ('<a href="#here" id="here">', None),
    ],
)
def test_the_checker_sees_faults(tmp_path: Path, body: str, complaint: str | None) -> None:
    path = tmp_path / "page.html"
    path.write_text(body, encoding="utf-8")
    found = list(faults(path))
    assert (not found) if complaint is None else (len(found) == 1 and complaint in found[0])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{cite:p}`emami2019`", None),
        ("{cite:p}`nobody1900`", "nobody1900"),
        ("[a page](gone.md)", "gone.md"),
        ("{prf:ref}`gone-theorem`", "gone-theorem"),
        ("It is {result}`F2-double.here`.", None),
        ("It is {result}`F2-double.gone`.", "the ledger has no 'f2-double.gone'"),
    ],
)
def test_a_broken_reference_fails_the_strict_build(
    tmp_path: Path, text: str, complaint: str | None
) -> None:
    """The site's own configuration, over one page."""
    book = tmp_path / "book"
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("_build", "live-assets"))
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters: [{file: book/references}]\n", encoding="utf-8"
    )
    (book / "index.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
    (book / "references.md").write_text("# List\n\n```{bibliography}\n```\n", encoding="utf-8")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "-W", "--keep-going"]
    command += ["-n", "--config=book/_config.yml", "--toc=book/_toc.yml", "--path-output=book"]
    log = tmp_path / "log"  # a file: a pipe would stay open with a child that outlives the build
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(
            command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        )
    said = log.read_text(encoding="utf-8")
    assert (done.returncode == 0) == (complaint is None), said
    assert complaint is None or complaint in said.lower()
