"""The cases: the ends of what each parameter of a page allows, alone and in pairs, with seeds.

All of them stay short: a case changes one or two values of its page's `BASE`, and where an end
would take hours (`NEARER`), something on the way to it stands for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from companion.running.page import Page
from companion.running.parameters import Parameter

Given = dict[str, str]

BASE: dict[str, Given] = {
    "capacity": {"realisations": "2", "hidden_units": "2", "updates": "20"},
    "contractive": {"hidden_units": "8", "updates": "20"},
    "parallel": {"steps": "1000"},
    "permuted-mnist": {
        "models": "urnn rnn", "hidden_units": "16", "epochs": "1", "train_images": "640",
    },
    "smaller": {"teachers": "4"},
    "synthetic": {"realisations": "2", "hidden_units": "2 4", "updates": "20"},
    "systems": {"realisations": "2"},
    "theorem-1": {"horizon": "1000"},
}  # fmt: skip
NEARER: dict[tuple[str, str], dict[str, str]] = {
    ("capacity", "realisations"): {"1000": "8"},
    ("capacity", "updates"): {"1000000": "400"},
    ("contractive", "updates"): {"20000": "200"},
    ("parallel", "steps"): {"20000": "3000"},
    ("permuted-mnist", "epochs"): {"1000": "8"},
    ("permuted-mnist", "hidden_units"): {"1 512": "1 96", "512": "96"},
    ("permuted-mnist", "train_images"): {"55000": "5000"},
    ("smaller", "teachers"): {"1000": "60"},
    ("synthetic", "hidden_units"): {"1 512": "1 64", "512": "64"},
    ("synthetic", "realisations"): {"1000": "20"},
    ("synthetic", "updates"): {"1000000": "1000"},
    ("systems", "realisations"): {"1000": "20"},
    ("theorem-1", "horizon"): {"1000000": "100000"},
}
FAULTS: dict[str, list[Given]] = {  # of old, which no edge or pair has
    "capacity": [
        {"preset": "poster", "updates": "1", "epsilon": "1"},
        {"preset": "poster", "updates": "50", "epsilon": "1", "arms": "rnn-near"},
    ],
    "synthetic": [{"hidden_units": "1", "updates": "1"}],
    "systems": [{"snr_db": "5"}],
    "theorem-1": [{"n": "32", "norm": "0.999", "dtype": "float32"}],
    "theorem-2": [{"n": "2", "seed": "1"}, {"n": "2", "seed": "3"}],
}


@dataclass(frozen=True)
class Case:
    """A page and the values that differ from its defaults."""

    page: str
    given: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return " ".join([self.page, *(f"{name}={value}" for name, value in self.given)])


def _number(text: str, whole: bool) -> float:
    return int(text) if whole else float(text)


def edges(parameter: Parameter) -> list[str]:
    """Values at the ends of what a parameter allows, or all of its few choices.

    >>> edges(Parameter("n", "int", 4, "states", interval="[2, 16]"))
    ['2', '16']
    >>> edges(Parameter("X", "float", 1.0, "bound", interval="(0, 1000]"))
    ['1e-300', '1e-09', '1000']
    >>> edges(Parameter("models", "str", "a", "kinds", choices=("a", "b"), is_list=True))
    ['a b', 'a', 'b']
    """
    if parameter.type == "bool":
        return ["true", "false"]
    if parameter.choices:
        words = [str(choice) for choice in parameter.choices]
        return [" ".join(words), *words] if parameter.is_list and len(words) > 1 else words
    if not parameter.interval:
        return []
    low, high = (end.strip() for end in parameter.interval[1:-1].split(","))
    whole = parameter.type == "int" or parameter.is_list
    ends: list[str] = []
    if parameter.interval[0] == "[":
        ends.append(low)
    elif math.isfinite(float(low)):
        near = [str(int(low) + 1)] if whole else [repr(float(low) + 1e-9)]
        ends += ["1e-300", *near] if float(low) == 0 and not whole else near
    if parameter.interval[-1] == "]":
        ends.append(high)
    elif math.isfinite(float(high)):
        ends.append(str(int(high) - 1) if whole else repr(float(high) - 1e-9))
    return [" ".join(ends), *ends] if parameter.is_list else ends


def cases(page: Page, *, alone: bool = False) -> Iterator[Case]:
    """Make a page's cases: its base, each edge, pairs of neighbouring parameters, three seeds.

    With ``alone`` no pairs, and no other seeds.
    """
    declared = [p for p in page.parameters if not p.is_file]
    near = {
        p.name: [NEARER.get((page.name, p.name), {}).get(v, v) for v in edges(p)] for p in declared
    }
    ends = [(name, value) for name, values in near.items() for value in values]
    changes: list[Given] = [{}, *({name: value} for name, value in ends)]
    seeded = [name for name in near if name.startswith("seed")]
    others = [name for name in near if name not in seeded and near[name] and not alone]
    for one, other in itertools.pairwise(others):
        for a, b in itertools.product(near[one][:2], near[other][:2]):
            changes.append({one: a, other: b})
    seeds = ("1", "2", "3") if seeded and not alone else ()
    for (name, value), seed in itertools.product(ends, seeds):
        if name not in seeded:
            changes.append({name: value, seeded[0]: seed})
    changes += FAULTS.get(page.name, [])
    seen = set()
    for change in changes:
        given = BASE.get(page.name, {}) | change
        run = page.run(given.items())
        if run.id not in seen:
            seen.add(run.id)
            yield Case(page.name, tuple(given.items()))
