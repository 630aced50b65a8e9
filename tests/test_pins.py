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


FILES = ("constraints.txt", "constraints-torch.txt", "constraints-cuda.txt")
PIN = re.compile(r"([a-z0-9.-]+)==([0-9][A-Za-z0-9.]*)(?: ; [^\\\n]+)? \\\n((?:    --hash=.*\n)+)")


def pins(*files: str) -> dict[str, str]:
    """Name and version of each pin of the lock files, each of which has its hashes."""
    found = {}
    for file in files or FILES:
        text = (ROOT / file).read_text(encoding="utf-8")
        lines = re.sub(r"(?m)^#.*\n", "", text)
        assert not PIN.sub("", lines).strip(), f"{file} has lines that are no pin with its hashes"
        for name, release, hashes in PIN.findall(lines):
            assert re.fullmatch(r"(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", hashes), name
            assert str(canonicalize_name(name)) == name
            assert name not in found, f"{name} is pinned twice"
            found[name] = release
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


def test_everything_installed_is_pinned_and_at_its_pin() -> None:
    pinned = pins()
    for name in sorted(installed_closure()):
        assert name in pinned, f"{name} is drawn in but not pinned: `make lock`"
        try:
            here = Version(version(name)).public  # 2.13.0+cpu is a build of 2.13.0
        except PackageNotFoundError:
            pytest.fail(f"{name} is missing: `make env` installs it")
        assert here == pinned[name], f"{name} is {here} here, {pinned[name]} as pinned"


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


def test_torch_alone_has_files_of_its_own() -> None:
    """What the CUDA build needs must not come with the CPU build."""
    assert list(pins("constraints-torch.txt")) == ["torch"]
    assert all(re.match("(nvidia|cuda)-", name) for name in pins("constraints-cuda.txt"))


def test_conda_environment_is_the_same() -> None:
    """Python and make from conda, everything else by pip from the same pins."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, by_pip = environment["dependencies"]
    assert conda == ["python=3.12", "pip", "make"]
    files, *builds = by_pip["pip"]
    assert files == "-r constraints.txt"
    known = (ROOT / "constraints-torch.txt").read_text(encoding="utf-8")
    for line in builds:
        assert re.search(rf"/torch-{pins()['torch']}(%2Bcpu)?-cp312-cp312-", line)
        assert f"--hash=sha256:{line.split('#sha256=')[1][:64]}" in known


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda p: p.stem
)
def test_actions_are_pinned_by_hash_and_rights_are_few(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert (name == "deploy") == ("permissions" in job)
        for step in job["steps"]:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", "a@" + "0" * 40))
        if name == "deploy":  # nothing of PyPI's or npm's runs where the site may be changed
            assert not [step for step in job["steps"] if "run" in step]
