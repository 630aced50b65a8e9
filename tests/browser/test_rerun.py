"""A rerun's page, opened from its file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from companion.running.html import write_html
from companion.running.page import load_page
from companion.running.run import perform

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
CODE = """
import matplotlib.pyplot as plt
plt.plot([0, n])
plt.show()
print("twice", 2 * n)
```

```{prf:theorem} Ours
:label: ours
Every $n$ is $n$, as {prf:ref}`ours` and {doc}`theorem-1` say, and

$$ n^2 \\geq n. $$ (square)
```

```{code-cell} ipython3
assert n
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, write_page: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("a rerun") / "checkout"
    (root / "notebooks").mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name[0] != "." and path.name not in ("notebooks", "runs"):
            (root / path.name).symlink_to(path)
    for path in (ROOT / "notebooks").iterdir():
        if path.is_file():
            shutil.copy(path, root / "notebooks")
    # a name that an old address of the book has, too
    write_page(root, "figure-4", "n: int = 4  # states, 1 to 64", CODE)
    run = load_page(root, "figure-4").run([("n", "5")])
    folder, _ = perform(run, root, root / "runs")
    return write_html(run, root, folder, root / ".cache")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_rerun_is_one_file_that_shows_all_of_the_page(
    page: Path, browser: Any, scheme: Any
) -> None:
    context = browser.new_context(color_scheme=scheme)
    opened = context.new_page()
    requests: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda r: requests.append(r.url))
    opened.on("pageerror", lambda e: errors.append(str(e)))
    opened.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    opened.goto(page.as_uri())
    opened.wait_for_load_state("load")
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    assert errors == []
    assert opened.locator("html").get_attribute("data-theme") == scheme
    text = opened.locator("article").inner_text()
    assert "{prf" not in text and "$" not in text  # noqa: PT018
    assert "n = 5 (the page has 4)" in text.replace("\xa0", " ")
    assert "twice 10" in text
    origin = opened.locator("aside.executed")
    assert "To run it again: companion run figure-4 -p n=5." in origin.inner_text()
    links = [a.get_attribute("href") for a in origin.get_by_role("link").all()]
    assert {"record.json", "figure-4.ipynb"} <= set(links)
    assert all((page.parent / name).is_file() for name in ("record.json", "figure-4.ipynb"))
    assert opened.locator("div.proof .katex").count() > 1
    assert opened.locator("article img, article svg").count() >= 1
    for image in opened.locator("article img").all():
        assert image.evaluate("i => i.complete && i.naturalWidth > 0")
    context.close()
