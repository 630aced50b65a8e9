"""Put what pages load of others under book/_static, from npm, checked by SHA-256.

The site serves these files itself, so that it opens without a network. Nothing of a package is
installed or run; its licence comes along.

    python book/_ext/assets.py            # those of the site
    python book/_ext/assets.py axe-core   # the one that the browser tests use, into .cache
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from companion.experiments.mnist import npm_pack

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "book" / "_static"
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
}
# Fonts that come with the style, so that no line moves later.
INLINED = ("fonts/KaTeX_Main-Regular.woff2", "fonts/KaTeX_Math-Italic.woff2")


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
    """Fetch, check and unpack, unless this version is there already."""
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


if __name__ == "__main__":
    for asked in sys.argv[1:] or [name for name in PACKAGES if name != "axe-core"]:
        if asked not in PACKAGES:
            raise SystemExit(
                f"{asked!r} is no package of this script; allowed: {', '.join(PACKAGES)}."
            )
        put(asked)
