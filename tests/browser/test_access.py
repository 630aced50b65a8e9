"""What a reader can reach and see on every page: formulas on a phone, the focus, the dark."""

from __future__ import annotations

import io
import itertools

import pytest
import yaml
from PIL import Image
from playwright.sync_api import Browser

from browser.conftest import ROOT, SCREEN, SITE, Reader, pages

pytestmark = pytest.mark.browser
CONFIG = yaml.safe_load((ROOT / "book/_config.yml").read_text(encoding="utf-8"))
MOVED = CONFIG["sphinx"]["config"]["moved_pages"]
OWN = [
    name
    for name in pages()
    if name.startswith(("book/", "notebooks/")) and name.removesuffix(".html") not in MOVED
]

REACH = """() => [...document.querySelectorAll("div.math")].flatMap(m => {
  if (!m.offsetParent) return [];
  const parts = [...m.querySelectorAll(".katex-html .base")];
  if (!parts.length) return [];
  m.scrollLeft = 0;
  const box = m.getBoundingClientRect();
  const left = Math.min(...parts.map(p => p.getBoundingClientRect().left));
  m.scrollLeft = 1e6;
  const right = Math.max(...parts.map(p => p.getBoundingClientRect().right));
  return left < box.left - 2 || right > box.right + 2 ? [m.textContent.trim().slice(0, 40)] : [];
})"""


# What stands out of the page, is cut by a box that does not scroll, or scrolls by finger alone.
CUT = """() => {
  const width = document.documentElement.clientWidth, found = [];
  const scrolls = e => /auto|scroll/.test(getComputedStyle(e).overflowX)
    && e.scrollWidth > e.clientWidth + 1;
  const inside = e => e && (scrolls(e) || inside(e.parentElement));
  const say = (e, fault) => found.push(
    `${fault}: ${e.tagName} ${e.getAttribute("class")} ${e.textContent.trim().slice(0, 40)}`);
  for (const e of document.querySelectorAll("main *")) {
    if (!e.getClientRects().length || e.ownerSVGElement) continue;
    if (e.closest(".katex-mathml, .visually-hidden")) continue;
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (style.visibility === "hidden" || style.position === "fixed" || box.width < 2) continue;
    if ((box.right > width + 1 || box.left < -1) && !inside(e.parentElement))
      say(e, "stands out");
    if (/hidden|clip/.test(style.overflowX) && style.textOverflow !== "ellipsis"
        && e.scrollWidth > e.clientWidth + 2) say(e, "is cut");
    if (scrolls(e) && e.tabIndex < 0 && !e.querySelector("a, button, input, [tabindex='0']"))
      say(e, "scrolls without keys");
  }
  if (document.documentElement.scrollWidth > width) found.push("the page scrolls sideways");
  return found.slice(0, 5);
}"""


@pytest.mark.parametrize("width", [320, 390, 430, 600])
def test_nothing_is_cut_off_and_both_ends_of_every_formula_can_be_reached(
    browser: Browser, width: int
) -> None:
    context = browser.new_context(**SCREEN | {"viewport": {"width": width, "height": 900}})
    page, found = context.new_page(), []
    for name in OWN:
        page.goto((SITE / name).as_uri())
        page.wait_for_function("document.fonts.status === 'loaded'")
        found += [f"{name}: {fault}" for script in (CUT, REACH) for fault in page.evaluate(script)]
    context.close()
    assert not found, "\n".join(["", *found])


FOCUS = """() => {
  const shown = e => e.offsetParent && !e.closest("[inert], dialog:not([open])");
  const all = [...document.querySelectorAll(
    "a[href], button:enabled, input:enabled, select, summary, [tabindex='0']"
  )].filter(shown);
  return all.map(e => {
    e.focus({focusVisible: true, preventScroll: true});
    if (document.activeElement !== e) return null;
    const style = getComputedStyle(e);
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return seen ? null : e.outerHTML.slice(0, 120);
  }).filter(Boolean);
}"""


@pytest.mark.parametrize("name", OWN)
def test_the_keyboards_place_is_seen(reader: Reader, name: str) -> None:
    reader.open(name)
    found = reader.page.evaluate(FOCUS)
    assert not found, "\n".join(["", *found[:10]])


@pytest.mark.parametrize("name", [n for n in OWN if n.startswith("notebooks/")])
def test_no_picture_has_a_white_ground_in_the_dark(browser: Browser, name: str) -> None:
    tall = {"width": 1280, "height": 2000}  # no picture that fits is scrolled while it is taken
    context = browser.new_context(**SCREEN | {"color_scheme": "dark", "viewport": tall})
    reader = Reader(context.new_page(), SITE.as_uri() + "/")
    reader.open(name)  # whole: while scripts still put figures in, pictures move under the camera
    for picture in reader.page.locator("article img:visible").all()[:6]:
        ground = picture.evaluate("e => getComputedStyle(e).backgroundColor")
        assert ground == "rgba(0, 0, 0, 0)", f"{name}: a picture has the ground {ground}"
        picture.scroll_into_view_if_needed()
        shot = Image.open(io.BytesIO(picture.screenshot())).convert("L")
        corners = [(x, y) for x in (1, shot.width - 2) for y in (1, shot.height - 2)]
        light = [shot.getpixel(corner) for corner in corners]
        assert max(light) < 80, f"{name}: a corner is as light as {max(light)} of 255"
    context.close()


@pytest.mark.parametrize("name", OWN)
def test_tables_are_tables_and_headings_are_in_order(reader: Reader, name: str) -> None:
    reader.open(name)
    page = reader.page
    for table in page.locator("article div.table-wide").all():
        assert table.locator("thead th").count() > 0
        assert table.locator("tbody td").count() > 0
        assert table.get_attribute("aria-label")
    levels = page.locator("article :is(h1, h2, h3, h4):visible").evaluate_all(
        "hs => hs.map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    steps = [b - a for a, b in itertools.pairwise(levels)]
    assert max(steps, default=0) <= 1, f"{name}: {levels}"
    description = page.locator("head meta[name=description]").get_attribute("content")
    assert description
    assert 40 <= len(description) <= 170


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_address_leads_to_the_new_one(reader: Reader, old: str, new: str) -> None:
    reader.page.goto(f"{reader.home}{old}.html")
    page, _, anchor = new.partition("#")
    reader.page.wait_for_url(f"**/{page}.html{'#' + anchor if anchor else ''}")
    reader.page.locator("article h1").first.wait_for()
    if anchor:
        assert reader.page.locator(f"#{anchor}").count() == 1


def moving(page: object) -> int:
    code = "document.getAnimations().filter(a => a.playState === 'running').length"
    return int(page.evaluate(code))  # type: ignore[attr-defined]


def test_the_picture_moves_stops_on_request_and_is_still_where_motion_is_unwelcome(
    browser: Browser,
) -> None:
    for motion, expected in (("no-preference", True), ("reduce", False)):
        context = browser.new_context(**SCREEN | {"reduced_motion": motion})
        page = context.new_page()
        page.goto((SITE / "book/index.html").as_uri())
        assert (moving(page) > 0) is expected
        figure = page.locator("figure#fig-result")
        switch = figure.locator("input[type=checkbox]")
        assert switch.is_visible() is expected
        if expected:
            switch.focus()
            page.keyboard.press("Space")
            assert moving(page) == 0
        assert figure.locator(".still:visible, .cross:visible").count() > 0
        page.emulate_media(media="print")
        assert moving(page) == 0
        context.close()


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("2n", "theorem|smaller"),
        ("dilation", "theorem-1"),
        ("sigmoid", "theorem-3"),
        ("equivalent", "background|theorem"),
    ],
)
def test_search_puts_what_explains_first_with_an_excerpt(
    reader: Reader, words: str, first: str
) -> None:
    reader.page.goto(f"{reader.home}search.html?q={words}")
    result = reader.page.locator("#search-results li").first
    result.wait_for()
    address = str(result.locator("a").get_attribute("href"))
    assert any(part in address for part in first.split("|")), address
    assert words in result.locator("p.context").inner_text().lower()
    assert not reader.trouble, reader.trouble


def test_the_card_for_links_is_there() -> None:
    with Image.open(SITE / "_static/card.png") as card:
        assert card.size == (1200, 630)
