"""No result is typed into prose: a page prints it, or takes it from the results when it is built.

The rule. Outside code, mathematics, headings, addresses and directives' options, a number may stand
in the text of a page only as a *name* (Theorem 1, step 0, float64, 1/e), in a line with a citation
of where it comes from, or if ``allowed.yml`` lists its phrase with a reason: *poster* (its own
constant or number), *choice* (of this page, made in its code or before a run), *fact* (of
arithmetic, of a format or a tool). In mathematics, where
constants belong to statements, decimals count as well. Everything else is a result.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "notebooks").glob("*.md"), *(ROOT / "book").glob("*.md")])
PAGES.remove(ROOT / "book/plan.md")  # fixes numbers before runs: each is a choice
ALLOWED: dict[str, dict[str, str]] = yaml.safe_load(
    (Path(__file__).parent / "allowed.yml").read_text(encoding="utf-8")
)
REASONS = ("poster", "choice", "fact")

NAME = re.compile(
    r"""(?ixm)
    (?: theorems?|figures?|propositions?|steps?|lags?|exercises?|point|chapters?|entry|state
      | \b(?:n|k|t|q|w|x|m|T|phi|ε)\s*= )
      \s* \d+ (?![.,]?\d) (?: \s*(?:,|and|or|to|…|-|–)\s*\d+ (?![.,]?\d) )*
    | \*\*\d+\.\*\* | ^\d+\.\  # an exercise, an item of a list
    | \[\d\]?(?=[\s.,]|$)         # a link named by a theorem's number
    | \b 1/e \b
    | \b(?:15|20)\s+dB\b         # the poster's two noise levels
    | \b(?:float|sha|utf|int|md)-?\d+ # a type
    | (?<![.,\d])\b[01]\b(?![.,/\d]\d) # zero and one are words of mathematics
    | \bpython\s+3\.\d+(?:(?:,\ |\ or\ |\ to\ )3\.\d+)* | \bCC\ BY-SA\ 3\.0 # names with versions
    | \b\d+(?:D|d)\b
    | \(\d{4}\) | \b(?:19|20)\d\d\b(?:-\d\d-\d\d)? # years and dates
    """
)
NUMBER = re.compile(r"(?<![\w.\d])[+−-]?(?:\d+(?:[.,  ]\d+)*|\.\d+)\s?%?")
# in mathematics integers are exponents and sizes, unless they stand alone; in captions, sizes
DECIMAL = re.compile(r"\d*\.\d+|\$\d{2,}\$|\d{3,}/\d{3,}")
PROSE = ("prf:", "dropdown", "admonition", "note", "tip", "warning", "important", "hint", "margin",
         "sidebar", "list-table", "attention", "caution", "seealso", "topic")  # fmt: skip


def prose(text: str) -> tuple[str, str]:
    """The text of a page, and the mathematics in it; both with as many lines as the page."""

    def blank(found: re.Match[str]) -> str:
        return "\n" * found[0].count("\n")

    text = re.sub(r"\A---\n.*?\n---\n", blank, text, flags=re.DOTALL)
    kept: list[str] = []
    math: list[str] = []
    code, ticks, header = "", 0, 0
    for line in text.splitlines():
        fence = re.match(r"\s*(`{3,}|:{3,})(.*)", line)
        if code:
            header += line.strip() == "---"  # of a cell: holds the caption and alt of its figure
            kept.append("")
            math.append(line if code == "math" or header == 1 else "")
            closing = fence and not fence[2].strip() and len(fence[1]) >= ticks
            code = "" if closing else code
            continue
        math.append("")
        if fence:
            info = fence[2].strip()
            prose_block = info.startswith(tuple(f"{{{name}" for name in PROSE))
            ticks, header = len(fence[1]), 0
            code = "" if prose_block or not info else "math" if info[:6] == "{math}" else "code"
            kept.append("")
        else:
            kept.append("" if re.match(r"#|:\w+:|\(\S+\)=$|\s*$", line) else line)
    body = "\n".join("" if "{cite" in line else line for line in kept)

    def take(found: re.Match[str]) -> str:
        line = body[: found.start()].count("\n")
        math[line] += " " + found[0]
        return "¤" + "\n" * found[0].count("\n")

    body = re.sub(r"\$\$.+?\$\$|\$[^$]+?\$|\{math\}`[^`]+`", take, body, flags=re.DOTALL)
    body = re.sub(r"(`+)[^`].*?\1", blank, body, flags=re.DOTALL)  # code, and roles' content
    body = re.sub(r"\]\([^)]*\)|https?://\S+", blank, body)
    return body, "\n".join(math)


def typed(text: str, allowed: dict[str, str]) -> list[str]:
    """Numbers that are results or could be: each with its line and its surroundings."""
    found = []
    for part, pattern in zip(prose(text), (NUMBER, DECIMAL), strict=True):
        for phrase in allowed:
            words = r"\s+".join(map(re.escape, phrase.split()))
            part = re.sub(words, lambda m: "\n" * m[0].count("\n"), part)
        part = NAME.sub(lambda m: "\n" * m[0].count("\n"), part) if pattern is NUMBER else part
        for hit in pattern.finditer(part):
            line = part[: hit.start()].count("\n")
            where = part.splitlines()[line].strip()
            found.append(f"line {line + 1}: {hit[0].strip()!r} in {where!r}")
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_no_result_is_typed(path: Path) -> None:
    found = typed(path.read_text(encoding="utf-8"), ALLOWED.get(path.stem, {}))
    assert not found, (
        f"{path.name}: print these, or take them from the results with the role `result`; "
        "tests/allowed.yml is for constants, with a reason\n" + "\n".join(found)
    )


def test_the_list_has_reasons_and_nothing_unused() -> None:
    for page, phrases in ALLOWED.items():
        [path] = [p for p in PAGES if p.stem == page]
        body, math = prose(path.read_text(encoding="utf-8"))
        flat = " ".join((body + " " + math).split())
        for phrase, reason in phrases.items():
            assert reason.split(":")[0] in REASONS, (page, phrase)
            assert " ".join(phrase.split()) in flat, f"{page}: {phrase!r} is no longer there"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The error is 0.0036.", 1),
        ("It wins in 29 of 30 systems.", 2),
        ("It takes 12 % longer.", 1),
        ("Theorem 1 and step 0 of Figures 2 and 3; float64, $n = 4$, `n=8`", 0),
        ("The value $0.976$ was found.", 1),
        ("# 30 systems\n\n```{code-cell}\nx = 0.5\n```\n", 0),
        ("````{prf:proof}\nIt is 0.31.\n````\n", 1),
        ("See [12 of them](x-13.md) at https://example.org/14.", 1),
        ("listed 700 of them", 0),
        ("Needs Python 3.11, 3.12 or 3.13, and is CC BY-SA 3.0.", 0),
        ("| LSTM | 128 | 88% | {cite:t}`le2015` |", 0),
        ("A share of 3.0 is not a name.", 1),
        ("At n = 0.976 or Figure 0.976, and R² of .976.", 3),
        ("It wins in $29$ of $30$ systems, $976/1000$ of them.", 3),
        ("```{tip}\nIt is 0.31.\n```\n", 1),
        (
            "```{code-cell}\n---\nmystnb:\n  figure:\n    caption: |\n      It is 0.31.\n---\n"
            "x = 2.5\n```",
            1,
        ),
    ],
)
def test_the_rule_sees(text: str, count: int) -> None:
    assert len(typed(text, {"listed 700": "choice"})) == count


# Turns that readers stumbled on: a subject left out, a verb at the end, a riddle for a statement.
TURNS = (
    "is no matter of",
    "is no equality",
    "hands back",
    "shows all of itself",
    "asks the network",
    "once and for all",
    "it is the URNN's",
    "it counts the steps",
    "the poster linearises",
    "proved nowhere",
    "met which verdict",
    "the same coin",
    "is another matter",
    "says something else",
    "Not contractive, and yet",
    "speaks into",
    "its own proof",
)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_no_turn_that_readers_stumbled_on(path: Path) -> None:
    text = " ".join(path.read_text(encoding="utf-8").split())
    assert not [turn for turn in TURNS if turn in text]
