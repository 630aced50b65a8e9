"""Check every proof from a clean tree and write what was found for the book.

``python proofs/check.py`` needs Coq 8.16, MathComp 1.15 and mathcomp-analysis 0.6 (README.md) and
takes a few minutes; ``--fresh`` needs Python alone: it says whether the record is of these sources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECORD = HERE.parent / "book" / "results" / "proofs.json"
LEDGER = HERE / "theorems.json"
MUTANTS = HERE / "mutants.txt"


def ledger() -> dict[str, Any]:
    """Read the committed list: theorems with what they rest on, and what is not checked."""
    listed: dict[str, Any] = json.loads(LEDGER.read_text(encoding="utf-8"))
    return listed


def source_hash(folder: Path = HERE) -> str:
    """Hash the names and contents of the Coq files and the list, by SHA-256."""
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.v"), folder / LEDGER.name, folder / MUTANTS.name]):
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def stale() -> str | None:
    """Say why the record in the book is not of these sources; None where it is."""
    if not RECORD.is_file():
        return f"{RECORD} is missing: run `make proofs`"
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["sources_sha256"]
    if recorded != source_hash():
        return "proofs/ has changed since book/results/proofs.json was written: run `make proofs`"
    return None


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--fresh", action="store_true", help="only: is the record of these sources?"
    )
    parser.add_argument(
        "--deep", action="store_true", help="coqchk goes down to Coq, through the libraries"
    )
    parser.add_argument("--quick", action="store_true", help="leave out coqchk; write no record")
    given = parser.parse_args()
    if given.fresh:
        why = stale()
        print(why or "book/results/proofs.json is of these sources")
        return 1 if why else 0
    sys.path.insert(0, str(HERE))
    from checking import Failed, check  # needs Coq; the rest of this file does not

    before = source_hash()
    try:
        record = check(ledger(), full=not given.quick, deep=given.deep)
        if source_hash() != before:
            raise Failed("the sources changed while they were checked: run it again")
    except Failed as error:
        print(f"proofs: {error}", file=sys.stderr)
        return 1
    if not given.quick:
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        temporary = RECORD.with_suffix(".json.tmp")
        record = {"sources_sha256": before, **record}
        text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(RECORD)
    print(
        f"proofs: {len(record['theorems'])} statements checked, "
        f"{record['constants']} definitions and lemmas, {len(record['mutants'])} mutants settled"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
