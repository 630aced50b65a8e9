from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from companion.provenance import Refused

from companion import provenance

PACKAGE = {
    # a module that cannot be imported shows that nothing is
    "__init__.py": "from companion.a import f, g as renamed\nfrom .sub import h\n1 / 0\n",
    "a.py": "from companion import b\nfrom ._private import z\ndef f(): pass\ng = f\n",
    "b.py": "import numpy\n",
    "c.py": "def late():\n    from companion.a import f\n",
    "d.py": "",
    "_private.py": "z = 1\n",
    "sub/__init__.py": "from companion.sub.x import h\n",
    "sub/x.py": "from ..d import anything\n",
    "sub/y.py": "from . import x\nfrom .. import b\n",
}
A = {"a", "b", "_private"}
SUB = {"sub", "sub.x", "d"}
ALL = {"__init__", "a", "b", "c", "d", "_private", "sub.__init__", "sub.x", "sub.y"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name, text in PACKAGE.items():
        path = root / "src/companion" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "notebooks").mkdir()
    (root / "constraints.txt").write_text("numpy==2.4.6\nscipy==1.0  # why\n")
    (root / "results.json").write_text("{}\n")
    return root


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import numpy", set()),
        ("from companion import f", A),
        ("from companion import renamed", A),
        ("from companion import a", A),
        ("from companion.a import f", A),
        ("import companion.b as b", {"b"}),
        ("if 0:\n    from companion import b", {"b"}),
        ("from companion.c import late", {"c"} | A),
        ("from companion import h", SUB),
        ("from companion.sub import x", SUB),
        ("from companion.sub.y import x", SUB | {"sub.y", "b"}),
        ("import importlib\nimportlib.import_module('companion.b')", {"b"}),
        ("import importlib\nimportlib.import_module('companion.' + x)", ALL),
        ("import companion", ALL),
        ("import companion as c", ALL),
        ("import companion.b", ALL),
        ("from companion import *", ALL),
        ("from companion import unknown", ALL),
        ("from companion.missing import f", ALL),
    ],
)
def test_imports_are_followed(root: Path, code: str, expected: set[str]) -> None:
    modules, _ = provenance.imported_modules(code, root / "src/companion")
    assert set(modules) == {f"companion.{name}" for name in expected}


def parts(
    root: Path, text: str = "# text", code: str = "from companion import f"
) -> dict[str, str]:
    return provenance.notebook_parts(text, code, root, ("results.json",))


def test_parts_do_not_depend_on_place_time_or_line_endings(root: Path, tmp_path: Path) -> None:
    before = parts(root)
    moved = tmp_path / "else where"
    shutil.copytree(root, moved)
    for path in moved.rglob("*.*"):
        if path.is_file():
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
            os.utime(path, (0, 0))
    (moved / "constraints.txt").write_text("# pins\nscipy==1.0\n\nnumpy==2.4.6 # why\n")
    assert parts(moved) == before


@pytest.mark.parametrize(
    ("file", "text", "reasons"),
    [
        (
            "src/companion/a.py",
            "def f(): return 1",
            ["companion.a changed", "b gone", "_private gone"],
        ),
        ("src/companion/b.py", "x = 1", ["companion.b changed"]),
        ("src/companion/__init__.py", "from companion.a import g as f", ["names changed"]),
        ("constraints.txt", "numpy==2.4.5", ["pins changed"]),
        ("results.json", "[]", ["data results.json changed"]),
        ("src/companion/d.py", "x = 1", []),
        ("src/companion/c.py", "x = 1", []),
        ("src/companion/sub/x.py", "x = 1", []),
    ],
)
def test_a_part_changes_with_what_matters_only(
    root: Path, file: str, text: str, reasons: list[str]
) -> None:
    before = parts(root)
    (root / file).write_text(text)
    after = parts(root)
    found = provenance.differences(before, after)
    assert len(found) == len(reasons)
    assert all(any(f.endswith(r) for f in found) for r in reasons), found
    assert (provenance.key(before) == provenance.key(after)) is (not reasons)


def test_text_and_parameters_change_the_key(root: Path) -> None:
    before = parts(root)
    assert provenance.differences(before, parts(root, "# Text")) == ["text changed"]
    keys = {provenance.key(before, p) for p in ({}, {"n": 1}, {"n": 1.0}, {"n": "1"}, {"n": True})}
    assert len(keys) == 5


def test_missing_pins_are_refused(root: Path) -> None:
    (root / "constraints.txt").unlink()
    with pytest.raises(Refused, match=r"constraints\.txt is missing"):
        parts(root)


def git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *args], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_source_tree_hash_is_gits_own(root: Path) -> None:
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    (root / "src/companion/__pycache__").mkdir()
    (root / "src/companion/__pycache__/a.pyc").write_bytes(b"x")
    expected = git(root, "rev-parse", "HEAD:src/companion")
    assert provenance.source_tree_hash(root / "src/companion") == expected
    (root / "src/companion/d.py").write_text("x = 2\n")
    assert provenance.source_tree_hash(root / "src/companion") != expected


def test_git_state(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"commit": None, "dirty": None}
    assert provenance.git_state(root) == nothing
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    commit = git(root, "rev-parse", "HEAD")
    assert provenance.git_state(root) == {"commit": commit, "dirty": False}
    (root / "new.py").touch()
    assert provenance.git_state(root) == {"commit": commit, "dirty": True}
    # an unpacked archive inside somebody else's repository is no checkout of it
    assert provenance.git_state(root / "src") == nothing
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state(root) == nothing


def test_environment_names_what_is_installed(root: Path) -> None:
    (root / "constraints.txt").write_text("numpy==0.0\nno-such-package==1\n# pip==1\n")
    found = provenance.environment(root)
    assert set(found) == {"python", "platform", "cpu", "cores", "gpus", "packages"}
    assert found["packages"]["numpy"] not in ("0.0", "not installed")
    assert found["packages"]["no-such-package"] == "not installed"
    assert set(found["packages"]) == {"numpy", "no-such-package"}


def test_checkout_says_what_to_do_elsewhere(root: Path, tmp_path: Path) -> None:
    assert provenance.checkout(root) == root.resolve()
    with pytest.raises(Refused, match=r"no checkout.*pip install -e"):
        provenance.checkout(tmp_path)
