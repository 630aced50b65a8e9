from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from companion.running import record as provenance
from companion.running.record import Refused


@pytest.fixture
def root(tmp_path: Path, make_checkout: Callable[..., Path]) -> Path:
    root = make_checkout(tmp_path / "checkout")
    (root / "src/companion/sub").mkdir()
    (root / "src/companion/sub/x.py").write_text("1 / 0  # nothing is imported\n")
    (root / "constraints.txt").write_text("numpy==2.4.6\nscipy==1.0  # why\n")
    (root / "results.json").write_text("{}\n")
    return root


def parts(root: Path, text: str = "# text") -> dict[str, str]:
    return provenance.parts(text, root, ("results.json",))


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
        ("src/companion/sub/x.py", "g = 3", ["source tree changed"]),
        ("src/companion/new.py", "", ["source tree changed"]),
        ("constraints.txt", "numpy==2.4.5", ["pins changed"]),
        ("results.json", "[]", ["data results.json changed"]),
        ("other.json", "[]", []),
    ],
)
def test_a_part_changes_with_what_matters_only(
    root: Path, file: str, text: str, reasons: list[str]
) -> None:
    before = parts(root)
    (root / file).write_text(text)
    after = parts(root)
    assert provenance.differences(before, after) == reasons
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
    (root / "src/companion/a.py").write_text("x = 2\n")
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
