"""What a reader does on the site: search, switch themes, fold, point at a link, move a slider."""

from __future__ import annotations

import numpy as np
import pytest

from browser.conftest import Reader
from companion import RNN, compare, is_unitary

pytestmark = pytest.mark.browser


def test_mathematics_uses_its_own_fonts(reader: Reader) -> None:
    reader.open("book/index.html")
    assert reader.page.locator(".katex").count() > 0
    assert reader.page.evaluate("document.fonts.check('1em KaTeX_Main')")
    assert not reader.trouble, reader.trouble


def test_theme_choice_persists(visitor: Reader) -> None:
    visitor.open("book/index.html")
    theme = "document.documentElement.dataset.theme"
    for _ in range(3):  # auto, light, dark in some order
        if visitor.page.evaluate(theme) == "dark":
            break
        visitor.page.locator("button.theme-switch-button:visible").first.click()
    assert visitor.page.evaluate(theme) == "dark"
    visitor.open("book/references.html")
    assert visitor.page.evaluate(theme) == "dark"
    assert not visitor.trouble, visitor.trouble


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("achievability", "notebooks/theorem-1"),
        ("theorem converse", "notebooks/theorem-2"),
        ("dilation", "notebooks/theorem-1"),
    ],
)
def test_search_finds_a_theorem(reader: Reader, words: str, page: str) -> None:
    reader.page.goto(f"{reader.home}search.html?q={words.replace(' ', '+')}")
    # results come one by one: wait for this one
    reader.page.locator(f"#search-results li a[href*='{page}']").first.wait_for()
    assert not reader.trouble, reader.trouble


def test_proofs_and_code_fold(reader: Reader) -> None:
    reader.open("notebooks/theorem-1.html")
    for kind in ("details.proof-fold", "details.above-input"):
        fold = reader.page.locator(kind).first.element_handle()
        assert fold is not None
        was = fold.evaluate("d => d.open")
        fold.evaluate("d => d.querySelector('summary').focus()")
        reader.page.keyboard.press("Enter")
        assert fold.evaluate("d => d.open") != was
    assert not reader.trouble, reader.trouble


def test_code_can_be_copied(visitor: Reader) -> None:
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.open("notebooks/theorem-1.html")
    cell = visitor.page.locator("div.cell_input:visible").nth(1)
    code = cell.locator("pre").inner_text()
    cell.hover()
    cell.locator("button.copybtn").click()
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied.split() == code.split() != []


@pytest.mark.parametrize(
    ("page", "anchor", "words"),
    [
        ("notebooks/theorem-2.html", "theorem-2-sharp", "invertible recurrent matrix"),
        ("book/index.html", "theorem-1", "at most"),
        ("notebooks/theorem-1.html", "equation-eq-dilation", "U"),
        ("book/index.html", "id", "Melikasadat"),
    ],
)
def test_link_shows_what_it_leads_to(reader: Reader, page: str, anchor: str, words: str) -> None:
    reader.open(page)
    shown = reader.page.locator(".preview")
    assert not shown.is_visible()
    link = reader.page.locator(f"article a[href*='#{anchor}']:not(.headerlink)").first
    link.scroll_into_view_if_needed()
    link.hover()
    shown.wait_for()
    assert words in shown.inner_text()
    box = shown.bounding_box()
    assert box is not None
    assert 0 <= box["x"] <= 1280 - box["width"]
    reader.page.keyboard.press("Escape")
    assert not shown.is_visible()
    assert not reader.trouble, reader.trouble


def test_preview_opens_by_keyboard(reader: Reader) -> None:
    reader.open("book/index.html")
    link = reader.page.locator("article a[href*='#theorem-1']").first
    link.scroll_into_view_if_needed()
    previous = link.evaluate_handle(
        "a => { const all = [...document.querySelectorAll('article a')]; "
        "return all[all.indexOf(a) - 1]; }"
    ).as_element()
    assert previous is not None
    previous.focus()
    reader.page.keyboard.press("Tab")
    reader.page.locator(".preview").wait_for()


def test_slider_steps_by_keyboard(reader: Reader) -> None:
    reader.open("notebooks/theorem-2.html")
    slider = reader.page.locator("figure.slider").first
    before = slider.locator("img:visible").get_attribute("alt")
    slider.locator("input").focus()
    reader.page.keyboard.press("ArrowRight")
    after = slider.locator("img:visible").get_attribute("alt")
    assert before != after
    assert str(slider.locator("output").inner_text()) in str(after)
    assert not reader.trouble, reader.trouble


def test_live_network_is_the_one_that_the_package_computes(reader: Reader) -> None:
    """The figure's own arithmetic against NumPy's, above and below the sufficient bias."""
    reader.open("notebooks/theorem-1.html")
    for n, rho, M in ((3, 0.9, 1.0), (3, 0.9, 6.98), (5, 0.5, 0.2), (2, 0.98, 0.0)):
        found = reader.page.evaluate(f"companionLive.dilation({{n: {n}, rho: {rho}, M: {M}}})")
        W, U, F, b = (np.array(found[k]) for k in ("W", "U", "F", "b"))
        x, zero = np.array(found["x"])[:, None], np.zeros(n)
        C = np.ones((1, n))
        given = RNN(W, F[:, None], b, C, zero)
        made = RNN(
            U,
            np.concatenate([F, zero])[:, None],
            np.concatenate([b, zero - M]),
            np.concatenate([C, 0 * C], axis=1),
            np.zeros(2 * n),
        )
        assert is_unitary(made)
        assert (U[:n, :n] == W).all()
        result = compare(given, made, x)
        assert found["difference"] == pytest.approx(result.difference, abs=1e-12)
        assert (found["difference"] == 0) == (found["least"] <= M)
        assert found["least"] <= found["enough"]


def test_live_figure_follows_its_sliders(reader: Reader) -> None:
    reader.open("notebooks/theorem-1.html")
    figure = reader.page.locator("figure.live")
    said, bias = figure.locator(".said"), figure.locator("input[name=M]")
    assert "differ" in said.inner_text()
    drawn = figure.locator("svg").inner_html()
    bias.focus()
    reader.page.keyboard.press("End")
    assert "equal, to the bit" in said.inner_text()
    assert figure.locator("svg").inner_html() != drawn
    assert not reader.trouble, reader.trouble


def test_figure_of_runs_can_be_explored(reader: Reader) -> None:
    reader.open("notebooks/figures-2-3.html")
    page, figure = reader.page, reader.page.locator("figure.explore").first
    svg = figure.locator(".drawing svg")
    svg.first.wait_for()

    def rows() -> list[str]:
        return figure.locator("tbody tr").all_text_contents()

    first = rows()
    panel = figure.locator("select[name=panel]")
    panel.select_option(index=1)
    assert rows() != first
    panel.select_option(index=0)
    assert rows() == first
    figure.locator("input[name=URNN]").uncheck()
    assert 0 < len(rows()) < len(first)
    assert not any(row.startswith("URNN") for row in rows())
    figure.locator("input[name=URNN]").check()
    crosses = svg.first.inner_html()
    figure.locator("input[name=poster]").uncheck()
    assert len(svg.first.inner_html()) < len(crosses)
    figure.locator("input[name=run]").focus()  # a run by keyboard
    page.keyboard.press("ArrowRight")
    assert figure.locator(".picked polyline").count() >= 2
    assert figure.locator(".picked").get_attribute("data-run")
    page.keyboard.press("Home")
    assert figure.locator(".picked polyline").count() == 0
    svg.first.scroll_into_view_if_needed()
    x, y = svg.first.evaluate(  # and by pointing at one that is within the axes
        "s => { const room = s.getBoundingClientRect();"
        "const dots = [...s.querySelectorAll('circle')].map(c => c.getBoundingClientRect());"
        "const dot = dots.find(c => c.y > room.y + 60 && c.y < room.y + 200);"
        "return [dot.x + 2, dot.y + 2]; }"
    )
    page.mouse.move(x + 9, y + 9)
    page.mouse.move(x, y)
    figure.locator(".picked polyline").first.wait_for(state="attached")
    assert svg.first.locator("text", has_text="system").count()
    assert not reader.trouble, reader.trouble


def test_explored_means_are_the_tables(reader: Reader) -> None:
    """What the figure says of one group, against the published table."""
    import pandas as pd

    from browser.conftest import ROOT

    reader.open("notebooks/figures-2-3.html")
    tables = sorted((ROOT / "book/results/synthetic").glob("plan-released-20-3*.parquet"))
    rows = pd.concat([pd.read_parquet(path) for path in tables[:2]])  # of 32 systems each
    rows = rows.query("model == 'urnn' and hidden_units == 8 and diverged < 0 and r2 > 0")
    kept = rows["r2"].to_numpy()
    figure = reader.page.locator("figure.explore").first
    cells = [
        [td.text_content() for td in row.locator("td").all()]
        for row in figure.locator("tbody tr").all()
    ]
    (found,) = [c for c in cells if c[:2] == ["URNN", "8"]]
    assert float(str(found[2])) == pytest.approx(np.mean(kept), abs=1e-4)


def test_figures_stand_without_scripts(reader: Reader) -> None:
    browser = reader.page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for name in ("theorem-2", "figures-2-3"):
        page.goto(f"{reader.home}notebooks/{name}.html")
        for figure in page.locator("figure.slider, figure.explore").all():
            assert figure.locator("img:visible").count() == 1
    context.close()
