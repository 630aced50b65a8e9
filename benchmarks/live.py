"""`python -m benchmarks.live [--json FILE]`: how soon a page that runs in a browser answers.

It opens Theorem 1's page from its file in a headless Chromium (on PATH, or CHROMIUM=path), presses
*Run this page*, and then changes n and the seed. The site has to be built: `make book`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright

from companion.running.record import environment
from companion.theory.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book/_build/html/notebooks/theorem-1.html"
# Press the button with new values; the time until the first figure is another one, in seconds.
CHANGE = """async ([n, seed]) => {
  const form = document.querySelector("form[data-live]"), frame = () => new Promise(
    requestAnimationFrame), figure = () => document.querySelector("div.live-cell img");
  form.elements["live-n"].value = n;
  form.elements["live-seed"].value = seed;
  form.elements["live-horizon"].value = 1000; // of the cells after the figure
  const began = performance.now(), before = figure()?.src;
  form.requestSubmit();
  while (!figure() || figure().src === before) await frame();
  await figure().decode();
  return (performance.now() - began) / 1000;
}"""


def measure() -> dict[str, object]:
    """Start the runtime once, change the page three times; the first figure of each is timed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(PAGE.as_uri())
        began = datetime.now(UTC)
        page.click("[data-live-run]")
        running = "document.documentElement.dataset.liveState === 'running'"
        page.wait_for_function(running, timeout=300_000)
        start = (datetime.now(UTC) - began).total_seconds()
        page.locator("div.live-cell img").first.wait_for(timeout=300_000)
        page.set_default_timeout(300_000)
        changes = []
        for n, seed in ((4, 1), (5, 0), (6, 2)):
            # a run that is under way ends with its cell; let it
            page.wait_for_function("document.documentElement.dataset.liveState === 'done'")
            changes.append(page.evaluate(CHANGE, [str(n), str(seed)]))
        found = {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "page": PAGE.stem,
            "browser": f"Chromium {browser.version}",
            "start_s": round(start, 2),
            "first_figure_s": round(statistics.median(changes), 2),
            "first_figure_all_s": [round(seconds, 2) for seconds in changes],
            "load_average": round(os.getloadavg()[0], 1),
            "environment": {k: v for k, v in environment(ROOT).items() if k != "packages"},
        }
        browser.close()
    return found


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the times there too")
    asked = parser.parse_args()
    text = json.dumps(measure(), indent=1, ensure_ascii=False)
    print(text)
    if asked.json:
        write_whole(asked.json, text + "\n")


if __name__ == "__main__":
    main()
