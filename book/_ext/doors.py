"""Doors to a page that runs: Binder and Colab, for a repository on GitHub whose address is known.

The address is ``repository: url`` in ``_config.yml``; while it is empty there is no button. Binder
builds ``.binder/``. Colab opens a notebook from the repository, which must begin by fetching the
rest; those notebooks lie in ``.colab/`` and are written by

    python book/_ext/doors.py    # after setting the address, or changing a page; commit the result

A Sphinx extension too, loaded by ``_config.yml``.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
FETCH = """# Colab starts empty, with a torch of its own: fetch the companion and install it.
!git clone --quiet --depth 1 --branch {branch} {url} companion
%cd companion/notebooks
%pip install --quiet .."""


def github(url: str) -> str | None:
    """``owner/name`` of an address on GitHub, else None.

    >>> github("https://github.com/owner/name.git"), github("https://example.org/x"), github("")
    ('owner/name', None, None)
    """
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", url)
    return found[1] if found else None


def addresses(url: str, branch: str, page: str) -> dict[str, str]:
    """Where each door leads for one page, such as ``notebooks/theorem-1``; none without GitHub."""
    place = github(url)
    if place is None:
        return {}
    name = Path(page).name
    colab = "https://colab.research.google.com/github"
    return {
        "Binder": f"https://mybinder.org/v2/gh/{place}/{branch}?urlpath=lab/tree/{page}.ipynb",
        "Colab": f"{colab}/{place}/blob/{branch}/.colab/{name}.ipynb",
    }


def for_colab(notebook: dict[str, Any], url: str, branch: str) -> dict[str, Any]:
    """A page without its outputs, and with a first cell that fetches what it needs."""
    first = {
        "cell_type": "code",
        "execution_count": None,
        "id": "fetch",
        "metadata": {},
        "outputs": [],
        "source": FETCH.format(url=url, branch=branch),
    }
    cells = [
        cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell
        for cell in notebook["cells"]
    ]
    metadata = {"kernelspec": notebook["metadata"]["kernelspec"]}
    return notebook | {"cells": [first, *cells], "metadata": metadata}


def written(root: Path) -> dict[str, str]:
    """The text of every file that belongs into ``.colab/``; none while there is no address."""
    settings = yaml.safe_load((root / "book/_config.yml").read_text(encoding="utf-8"))["repository"]
    if github(settings["url"]) is None:
        return {}
    made = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        page = json.loads(path.read_text(encoding="utf-8"))
        opened = for_colab(page, settings["url"], settings["branch"])
        made[path.name] = json.dumps(opened, indent=1, ensure_ascii=False) + "\n"
    return made


def add_buttons(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    """Put the doors into the header of each executed page."""
    known = page in app.env.found_docs and app.env.doc2path(page).endswith(".ipynb")
    options = app.config.html_theme_options
    doors = addresses(
        options.get("repository_url", ""), options.get("repository_branch", "main"), page
    )
    if known and doors:
        buttons = [
            {"type": "link", "text": name, "tooltip": f"Run this page on {name}", "url": url}
            for name, url in doors.items()
        ]
        context["header_buttons"].append(
            {
                "type": "group",
                "tooltip": "Run this page",
                "icon": "fas fa-rocket",
                "buttons": buttons,
                "label": "launch-buttons",
            }
        )


def main() -> None:
    """Write ``.colab/`` anew, or remove it where there is no address."""
    target = ROOT / ".colab"
    shutil.rmtree(target, ignore_errors=True)
    for name, text in written(ROOT).items():
        target.mkdir(exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
    print(f"{target}: {len(written(ROOT))} notebooks")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the extension, after the theme's own buttons."""
    app.connect("html-page-context", add_buttons, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    main()
