"""One set of versions: in pyproject.toml, the pins, environment.yml, the workflows, and here."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def pins() -> dict[str, str]:
    """Name and version of each line of constraints.txt."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9.-]+)==([0-9][A-Za-z0-9.]*)", line)
            assert match, f"{line!r} is not of the form name==version without a local label"
            name = str(canonicalize_name(match[1]))
            assert name not in found, f"{name} is pinned twice"
            found[name] = match[2]
    return found


def declared() -> list[Requirement]:
    """Every requirement that pyproject.toml states, extras included."""
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(r) for r in [*PROJECT["dependencies"], *(x for e in extras for x in e)]]


def test_every_declared_dependency_is_pinned() -> None:
    assert not {canonicalize_name(r.name) for r in declared()} - pins().keys()


def installed_closure() -> set[str]:
    """What an install of ``.[book,test]`` draws in on this machine, from the installed metadata."""
    found: set[str] = set()
    todo = [r for r in declared() if r.marker is None]
    seen = set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found.add(str(key[0]))
        for text in requires(requirement.name) or []:
            inner = Requirement(text)
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                todo.append(inner)
    return found


# They come with a CUDA build of torch, which names most of them exactly, and with nothing else.
LEFT_TO_TORCH = re.compile(r"nvidia-.*|cuda-.*")


def test_everything_installed_is_pinned_and_at_its_pin() -> None:
    pinned = pins()
    for name in sorted(installed_closure()):
        if LEFT_TO_TORCH.fullmatch(name):
            continue
        assert name in pinned, f"{name} is drawn in but not in constraints.txt"
        try:
            here = Version(version(name)).public  # 2.13.0+cpu is a build of 2.13.0
        except PackageNotFoundError:
            pytest.fail(f"{name} is missing: pip install -c constraints.txt -e '.[book,test]'")
        assert here == pinned[name], f"{name} is {here} here, {pinned[name]} in constraints.txt"


def test_pins_run_on_every_declared_python() -> None:
    """The oldest release of each Python counts: Debian 12 has 3.11.2."""
    for name in sorted(installed_closure()):
        needs = SpecifierSet(distribution(name).metadata.get("Requires-Python") or "")
        for python in PYTHONS:
            assert f"{python}.0" in needs, f"{name} needs Python {needs}"


def test_python_versions_agree() -> None:
    span = SpecifierSet(PROJECT["requires-python"])
    assert [p for p in (f"3.{minor}" for minor in range(8, 20)) if p in span] == list(PYTHONS)
    prefix = "Programming Language :: Python :: "
    classified = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    assert classified == list(PYTHONS)
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == list(PYTHONS)


def test_conda_environment_is_the_same() -> None:
    """Python and make from conda, everything else by pip from the same pins."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, by_pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip", "make"]
    assert by_pip == {"pip": ["-c constraints.txt", "-e .[book,test]"]}
