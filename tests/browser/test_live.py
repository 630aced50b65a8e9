"""Pages that run in the browser: their text is the notebook's, and what a reader does with them.

The runtime has to be there: `python book/assets.py runtime`, which `make test-browser` sees to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser
from safetensors.numpy import load_file, save_file

from browser.conftest import ROOT, SCREEN, SITE, Reader
from browser.test_pages import violations
from companion import RNN, convert_file, recheck, save_rnn
from companion.running.parameters import parse_parameters
from companion.running.record import Refused

PAGES = sorted(p.stem for p in (SITE / "notebooks").glob("*.html") if "data-live=" in p.read_text())
STATE = "document.documentElement.dataset.liveState"
PATIENCE = 300_000  # ms, on a machine that does much else

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Callable[..., Reader]]:
    """Open a page that runs, from its files or from a server; it must ask nobody else."""
    contexts, readers = [], []

    def open_page(name: str, *, served: bool = False, **screen: Any) -> Reader:
        contexts.append(browser.new_context(**SCREEN | screen))
        page = contexts[-1].new_page()
        reader = Reader(page, address if served else SITE.as_uri() + "/")
        page.on("pageerror", lambda e: reader.trouble.append(str(e)))
        page.on("requestfailed", lambda r: reader.trouble.append(f"failed: {r.url}"))
        page.on("request", lambda r: outside(reader, r.url))
        reader.open(f"notebooks/{name}.html")
        readers.append(reader)
        return reader

    yield open_page
    for context in contexts:
        context.close()
    for reader in readers:
        assert not reader.trouble, reader.trouble


def outside(reader: Reader, url: str) -> None:
    if not url.startswith((reader.home, "data:", "blob:")):
        reader.trouble.append(f"asked {url}")


def wait(reader: Reader, *states: str) -> None:
    wanted = f"{json.dumps(states)}.includes({STATE})"
    reader.page.wait_for_function(wanted, timeout=PATIENCE)


def run(reader: Reader, **values: str) -> None:
    for name, value in values.items():
        reader.page.locator(f"[name=live-{name}]").fill(value)
    reader.page.locator("[data-live-run]").click()
    reader.page.wait_for_function(f"{STATE} !== 'done'")
    wait(reader, "done", "failed")


def cells(reader: Reader) -> list[dict[str, Any]]:
    """Of each code cell: whether its output is live, what it holds, the note beside it."""
    found: list[dict[str, Any]] = reader.page.evaluate(
        """Promise.all([...document.querySelectorAll("div.cell")]
          .filter(cell => cell.querySelector("div.cell_input")).map(async cell => {
            const images = [...cell.querySelectorAll("img")];
            await Promise.all(images.map(image => image.decode()));
            return {
              live: cell.classList.contains("live-cell"),
              text: [...cell.querySelectorAll(".output.stream pre")]
                .map(p => p.textContent).join(""),
              tables: [...cell.querySelectorAll(".cell_output table")].map(table =>
                [...table.rows].map(row => [...row.cells].map(td => td.textContent))),
              pictures: images.length,
              wide: images.filter(image => !image.hidden).every(image => image.naturalWidth > 100),
              note: [...cell.querySelectorAll(".live-note")].map(p => p.textContent).join(""),
            };
          }))"""
    )
    return found


def rows(table: Tag) -> list[list[str]]:
    """The text of a table's cells."""
    return [[td.get_text() for td in row.select("th, td")] for row in table.select("tr")]


def published(name: str) -> list[dict[str, Any]]:
    """Of each code cell of a committed notebook: what it printed, its tables, its pictures."""
    notebook = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf-8"))
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and "remove-cell" not in cell["metadata"].get("tags", []):
            outputs = cell["outputs"]
            text = "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
            data = [o.get("data", {}) for o in outputs]
            shown = "".join("".join(d.get("text/html", "")) for d in data)
            html = BeautifulSoup(shown, "html.parser")
            drawn = sum("image/svg+xml" in d for d in data) + len(html.select("img"))
            tables = [rows(table) for table in html.select("table")]
            found.append({"text": text, "tables": tables, "pictures": drawn})
    return found


def alert(reader: Reader) -> str:
    return str(reader.page.locator("[data-live-alert]").inner_text())


def test_there_are_pages_that_run() -> None:
    assert {"background", "theorem-1", "theorem-2", "theorem-3", "smaller"} <= set(PAGES)
    assert (SITE / "_static/live-assets/licences.txt").is_file(), "python book/assets.py runtime"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_run_here_says_what_the_book_says(opened: Callable[..., Reader], name: str) -> None:
    """Cell by cell; half of the pages as files, half of them from a server."""
    reader = opened(name, served=PAGES.index(name) % 2 == 1)
    assert reader.page.evaluate(STATE) == "idle"
    run(reader)
    assert reader.page.evaluate(STATE) == "done", alert(reader)
    for index, (here, there) in enumerate(zip(cells(reader), published(name), strict=True), 1):
        if here["live"]:
            assert (index, {key: here[key] for key in there}) == (index, there)
            assert here["wide"], f"cell {index} has an empty picture"
        else:  # a cell that trains: its published output stays, with the way to run it
            assert f"companion run {name}" in here["note"]
            assert re.search("needs (\\w+, and no browser has it|what cell)", here["note"])
    loaded = json.loads(reader.page.locator("form[data-live]").get_attribute("data-live") or "")
    assert sum(size for _, size in loaded["files"]) <= 50e6
    modules = reader.page.evaluate("companionRun.start().then(call => call('modules'))")
    names = {"python-dateutil": "dateutil", "pillow": "PIL"}
    unused = [p for p in loaded["packages"] if names.get(p, p) not in {*modules, "openblas"}]
    assert not unused, f"{name} loads {unused}, which nothing on it imports"


def test_a_reader_changes_stops_and_resets(opened: Callable[..., Reader]) -> None:
    reader = opened("background")
    page, before = reader.page, cells(reader)
    run(reader)
    assert re.fullmatch(
        r"Done: (\d+) of \1 cells ran here\.", page.inner_text("[data-live-status]")
    )
    run(reader, n="5", seed="3")
    changed = cells(reader)
    assert [c["text"] for c in changed] != [c["text"] for c in before]
    assert "n = 5" in page.inner_text(".live-banner")
    assert "published" in page.inner_text(".live-banner").lower()

    page.locator("[name=live-n]").fill("17")
    page.locator("[data-live-run]").click()
    [n, *_] = parse_parameters(parameters_cell("background"))
    with pytest.raises(Refused) as refused:
        n.read("17")
    assert alert(reader) == str(refused.value)
    assert page.evaluate(STATE) == "done"
    assert page.locator("[name=live-n]").get_attribute("aria-invalid") == "true"

    page.locator("[name=live-n]").fill("16")
    page.locator("[data-live-run]").click()
    page.locator("[data-live-status]", has_text=re.compile(r"cell \d of \d")).wait_for()
    page.locator("[data-live-stop]").click()
    assert page.evaluate(STATE) == "idle"
    page.locator("[data-live-reset]").click()
    assert cells(reader) == before
    assert page.locator("[name=live-n]").input_value() == str(n.default)
    assert not page.locator(".live-banner").is_visible()
    run(reader)
    assert page.evaluate(STATE) == "done"


def test_a_cell_that_fails_says_so_and_the_rest_stays(opened: Callable[..., Reader]) -> None:
    reader = opened("background", served=True)
    before = cells(reader)
    third = reader.page.locator("div.cell div.cell_input pre").nth(2)
    third.evaluate("pre => { pre.textContent = 'x = 1\\n1 / 0'; }")
    run(reader)
    after = cells(reader)
    assert reader.page.evaluate(STATE) == "failed"
    assert after[2]["note"] == "ZeroDivisionError: division by zero (line 2 of this cell)"
    assert re.search(r"Cell 3 of \d+ failed", alert(reader))
    assert after[3:] == before[3:]


def test_the_bar_is_used_by_keyboard_in_both_themes_and_on_a_phone(
    opened: Callable[..., Reader],
) -> None:
    reader = opened("background", served=True, viewport={"width": 360, "height": 800})
    page = reader.page
    page.locator("[name=live-n]").focus()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    page.wait_for_function(f"{STATE} !== 'idle'")
    for _ in range(12):  # on to Stop, past the other fields
        if page.evaluate("document.activeElement.matches('[data-live-stop]')"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate(STATE) == "idle"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    wait(reader, "done", "failed")
    assert page.evaluate(STATE) == "done"
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wider) <= 0
    page.set_viewport_size({"width": 1280, "height": 900})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        assert not violations(reader), scheme


def parameters_cell(name: str) -> str:
    text = (ROOT / f"notebooks/{name}.md").read_text(encoding="utf-8")
    found = re.search(r":tags: \[parameters\]\n\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


DECLARED = """\
share: float = 0.5       # of anything, in (0, 1]
count: int = 3           # of things, in [-2, inf)
models: str = "rnn"      # what is trained, words of: rnn, urnn
sizes: str = "2 4"       # hidden units, numbers 1 to 64
plot: bool = True        # whether to draw
kind: str = "a"          # which, one of: a, b c
width: int = 2           # how wide, one of: 2, 4
title: str = "none"      # any text
"""
TEXTS = """
1|+1|-2|-3|01|1.0|1.|.5|0|1e-3|1e400|nan|inf|٣|1 2|2 2|2  4|02 4|64 65|rnn|rnn urnn|urnn rnn
rnn rnn|a|b|b c|2|3|4|true|TRUE|yes|9223372036854775807|9223372036854775808|é|a\\b|it's
say "it"|\u00a0|a\u200bb|0x10|1_000| 1|2 ||-1e-5|1e5| |e5|--1|5 6 7|-0|0.0
"""


def test_the_bar_refuses_what_the_command_refuses(opened: Callable[..., Reader]) -> None:
    reader = opened("background")
    for name in [None, *PAGES]:
        for p in parse_parameters(parameters_cell(name) if name else DECLARED):
            shown = {"name": p.name, "type": p.type, "allowed": p.allowed, "list": p.is_list}
            for text in [*re.split(r"[|\n]", TEXTS), "1" * 1001, "x" * 70]:
                try:
                    p.read(text)
                    wanted = ""
                except Refused as error:
                    wanted = str(error)
                got = reader.page.evaluate(
                    "([p, text]) => companionRun.refusal(p, text)", [shown, text]
                )
                assert bool(got) == bool(wanted), (p, text, got, wanted)
                if text.isascii():
                    assert got == wanted


def network(path: Path, **metadata: str) -> Path:
    rng = np.random.default_rng(1)
    W = rng.standard_normal((5, 5))
    tensors = {
        "rnn.weight_hh_l0": W * 0.9 / np.linalg.norm(W, 2),
        "rnn.weight_ih_l0": rng.standard_normal((5, 3)),
        "rnn.bias_ih_l0": rng.standard_normal(5),
        "rnn.bias_hh_l0": rng.standard_normal(5),
        "out.weight": rng.standard_normal((2, 5)),
    }
    save_file(tensors, path, metadata=metadata)
    return path


def test_a_network_dropped_on_theorem_1_comes_back_unitary(
    opened: Callable[..., Reader], tmp_path: Path
) -> None:
    source = network(tmp_path / "mine.safetensors", nonlinearity="relu")
    reader = opened("theorem-1")
    page = reader.page
    page.locator("[name=live-bound]").fill("2.5")
    data = page.evaluate_handle(
        """bytes => { const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "mine.safetensors")); return data; }""",
        list(source.read_bytes()),
    )
    page.locator("form[data-live]").dispatch_event("drop", {"dataTransfer": data})
    link = page.locator("[data-live-result] a")
    link.wait_for(timeout=PATIENCE)
    with page.expect_download() as download:
        link.click()
    report = convert_file(source, tmp_path / "there.safetensors", 2.5)
    here = load_file(download.value.path())
    there = load_file(tmp_path / "there.safetensors")
    assert here.keys() == there.keys()
    for name, array in there.items():  # two builds of LAPACK, which round differently
        np.testing.assert_allclose(here[name], array, rtol=0, atol=1e-12 * np.abs(array).max())
    said = page.inner_text("[data-live-result] pre").splitlines()
    assert said[:3] == str(report).splitlines()[:3]
    assert any(line.startswith("difference") for line in said)

    lstm = tmp_path / "lstm.safetensors"
    save_file({"weight_hh_l0": np.zeros((8, 2)), "weight_ih_l0": np.zeros((8, 2))}, lstm)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(source.read_bytes()[:-8])
    pickle = tmp_path / "pickle.safetensors"
    pickle.write_bytes(b"\x80\x04\x95cposix\nsystem\n" * 40)
    nameless = network(tmp_path / "nameless.safetensors")
    for path, words in (
        (cut, "not a safetensors file"),
        (pickle, "not a safetensors file"),
        (nameless, "names no nonlinearity"),
        (lstm, "names no nonlinearity"),
    ):
        page.locator("[data-live-convert]").set_input_files(path)
        page.locator("[data-live-alert]", has_text=path.name).wait_for(timeout=PATIENCE)
        assert words in alert(reader)
        assert not link.is_visible()
    page.locator("[name=live-nonlinearity]").select_option("relu")
    page.locator("[data-live-alert]", has_text="LSTM").wait_for(timeout=PATIENCE)


def test_a_student_dropped_on_theorem_2_gets_its_witness_and_certificate(
    opened: Callable[..., Reader], tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    W = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    F, b, C, h = (rng.standard_normal(shape) for shape in ((3, 2), 3, (2, 3), 3))
    save_rnn(RNN(W, F, b, C, h), tmp_path / "student.safetensors")
    reader = opened("theorem-2", served=True)
    page = reader.page
    page.locator("[name=live-student]").set_input_files(tmp_path / "student.safetensors")
    link = page.locator("[data-live-result] a")
    link.wait_for(timeout=PATIENCE)
    with page.expect_download() as download:
        link.click()
    proof = tmp_path / "proof.json"
    download.value.save_as(proof)
    proved = str(recheck(proof))
    assert any(proved in cell["text"] for cell in cells(reader))

    page.locator("[data-live-recheck]").set_input_files(proof)
    page.locator("[data-live-result] pre", has_text="Proved again").wait_for(timeout=PATIENCE)
    assert proved in page.inner_text("[data-live-result] pre")
    altered = tmp_path / "altered.json"
    altered.write_text(proof.read_text("utf-8").replace("student of", "student with"), "utf-8")
    page.locator("[data-live-recheck]").set_input_files(altered)
    page.locator("[data-live-alert]", has_text="altered.json is refused").wait_for(timeout=PATIENCE)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_grows_by_little_and_loads_nothing_unasked(
    opened: Callable[..., Reader], name: str
) -> None:
    html = (SITE / f"notebooks/{name}.html").read_text(encoding="utf-8")
    [form] = re.findall(r'<form class="live-bar".*?</form>', html, re.DOTALL)
    parts = [len((SITE / f"_static/live/{part}").read_bytes()) for part in ("bar.js", "live.css")]
    assert len(form.encode()) + sum(parts) <= 30_000
    assert "live-assets/" not in re.sub(re.escape(form), "", html)


def test_without_its_runtime_a_bar_says_how_to_get_it() -> None:
    template = jinja2.Environment(autoescape=True).from_string(
        (ROOT / "book/_templates/live.html").read_text(encoding="utf-8")
    )
    shown = template.render(page="background", parameters=[], files=[], data="{}")
    assert "make book" in shown
    assert re.search(r"<button[^>]*data-live-run disabled>", shown)
