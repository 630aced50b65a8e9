"""The icons that pages use, as a style sheet of a few kB, instead of the theme's 1.5 MB of script.

After a build, the names of the icons on the pages are collected, their outlines read from the
theme's own copy of Font Awesome, and the script's tag is taken out of the pages. An icon then needs
no script to show and nothing moves when it does.

A Sphinx extension, loaded by ``_config.yml``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

TAG = re.compile(r'\s*<script defer src="[^"]*/fontawesome\.js[^"]*"></script>')
USED = re.compile(r'<(?:i|span) class="([^"]*\bfa-[^"]*)"')
STYLES = {"fa-solid", "fas", "fa-brands", "fab", "fa-regular", "far", "fa-lg", "fa-fw"}
SCRIPTED = {"fa-xmark"}  # what the theme's script adds

BASE = """/* Icons of this site, from Font Awesome Free 6 (https://fontawesome.com), CC BY 4.0. */
.fa-solid, .fas, .fa-brands, .fab, .fa-regular, .far {
  background: currentColor; display: inline-block; height: 1em; width: 1em;
  mask: var(--icon) center / contain no-repeat; vertical-align: -0.125em;
}
.fa-solid::before, .fas::before, .fa-brands::before, .fab::before, .fa-regular::before,
.far::before {
  content: none;
}
"""


def outline(library: str, name: str) -> str:
    """One icon as an address for CSS.

    ``library`` maps names to ``[width, height, [other names], code, path]``.
    """
    key = re.escape(name)
    entry = r'\[(\d+),(\d+),\[[^\]]*\],"[^"]*","([^"]*)"\]'
    found = re.search(rf'(?<![\w-])"?{key}"?:{entry}', library)
    if not found:  # a name of an older edition
        alias = rf'\[(\d+),(\d+),\[[^\]]*"{key}"[^\]]*\],"[^"]*","([^"]*)"\]'
        found = re.search(alias, library)
    if not found:
        raise ExtensionError(f"the theme's Font Awesome has no icon {name!r}.")
    width, height, path = found.groups()
    start = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
    svg = quote(f"{start}<path d='{path}'/></svg>", safe=" =:/'")
    return f'url("data:image/svg+xml,{svg}")'


def collect(app: Sphinx, failure: Exception | None) -> None:
    """Write ``_static/icons.css`` and take the script out of every page."""
    if failure or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    script = static / "scripts" / "fontawesome.js"
    if not script.is_file():  # no page was out of date, so nothing was written
        return
    names = set(SCRIPTED)
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for classes in USED.findall(text):
            names.update(c for c in classes.split() if c.startswith("fa-") and c not in STYLES)
        if TAG.search(text):
            page.write_text(TAG.sub("", text), encoding="utf-8")
    library = script.read_text(encoding="utf-8")
    rules = [f".{name} {{ --icon: {outline(library, name[3:])}; }}\n" for name in sorted(names)]
    (static / "icons.css").write_text(BASE + "".join(rules), encoding="utf-8")
    for extra in [*static.rglob("*.map"), script]:
        extra.unlink(missing_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension."""
    app.add_css_file("icons.css")
    app.connect("build-finished", collect)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
