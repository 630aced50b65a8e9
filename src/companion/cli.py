"""The command line: each command checks its options and calls what its folder offers.

Exit codes: 0 done, 1 failed, 2 refused (nothing was started), 130 interrupted.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
import webbrowser
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option
from typer.exceptions import TyperException

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Rerun, execute and check the companion.",
)  # fmt: skip
REFUSED = (ValueError, TypeError, FileNotFoundError, FileExistsError, TyperException)
"""Exceptions that name what is allowed, raised before anything is started."""
_given: dict[str, Any] = {}
"""The command's name, and the options that all have."""


def say(text: object, error: bool = False) -> None:
    """Print; what a terminal would take for a command is shown, not obeyed."""
    plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda m: repr(m[0])[1:-1], str(text))
    print(plain, file=sys.stderr if error else sys.stdout, flush=True)


def checkout() -> Path:
    """Return the checkout that ``--root`` names, or this one."""
    from companion.running.record import checkout

    return checkout(_given["root"])


def number(text: str) -> float:
    """Read a number as it is written in a program: no digits of other scripts, no underscore."""
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        raise typer.BadParameter(f"{text[:40]!r} is not a number such as 1.5")
    return float(text)


def Number(meaning: str) -> Any:
    """Declare an option that is a number."""
    return Option(metavar="X", parser=number, help=meaning)


def _rules(root: Path, notebook: str) -> dict[str, Any]:
    """Read the rules that runs of a notebook are judged by out of book/claims.yaml."""
    import yaml

    path = root / "book" / "claims.yaml"
    claims = yaml.safe_load(path.read_text("utf-8"))["claims"] if path.is_file() else []
    return {c["id"]: c["rule"] for c in claims if c["rule"].get("notebook") == notebook}


def _lacking(downloads: Sequence[str], root: Path) -> str | None:
    """Say what a page needs that is not in the checkout and not part of it; None if nothing."""
    from companion.experiments import mnist

    if unknown := [name for name in downloads if name != "mnist"]:
        raise ValueError(f"the page asks to download {unknown[0]!r}; allowed: mnist.")
    if downloads and mnist.missing(mnist.cache(root)):
        return "MNIST is not here; `companion data mnist` gets it"
    return None


def _html(run: Any, root: Path, folder: Path, out: Path, *, show: bool = False) -> None:
    """Make the page of a finished run, and print its path; without it the run is as good."""
    from companion.running.folders import cache
    from companion.running.html import write_html

    page = folder / f"{run.page.name}.html"
    try:
        say(page if page.is_file() else write_html(run, root, folder, cache(root, out)))
    except RuntimeError as error:
        say(error, error=True)
    else:
        if show:
            webbrowser.open(page.absolute().as_uri())


Notebook = Annotated[str, typer.Argument(metavar="NOTEBOOK", help="a page's name or path")]
Values = Annotated[list[str] | None, Option("-p", metavar="NAME=VALUE", help="repeatable")]
Out = Annotated[
    Path | None, Option(metavar="DIR", help="folder of runs (default: runs/ in the checkout)")
]
Table = Annotated[Path | None, Option(metavar="FILE", help="write a table to it")]
Force = Annotated[bool, Option("--force", help="replace what is there")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"companion {version('companion')}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    root: Annotated[Path | None, Option(metavar="DIR", help="default: this checkout")] = None,
    traceback: Annotated[bool, Option("--traceback", help="show where it failed")] = False,
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    _given.update(command=context.invoked_subcommand, root=root, traceback=traceback)


@app.command()
def run(
    notebook: Notebook,
    parameter: Values = None,
    params: Annotated[Path | None, Option(help="file of lines `name: value`")] = None,
    out: Out = None,
    force: Force = False,
    show: Annotated[bool, Option("--open", help="show the page in a browser")] = False,
    html: Annotated[bool, Option("--html/--no-html", help="make an HTML page of it")] = True,
    help_parameters: Annotated[bool, Option("--help-parameters", help="list them")] = False,
) -> None:
    """Run a notebook with other parameters."""
    from companion.running import parameters
    from companion.running.execute import progress
    from companion.running.page import load_page
    from companion.running.run import perform

    root = checkout()
    page = load_page(root, notebook)
    if help_parameters:
        for p in page.parameters:
            say(f"{p.name}: {p.type} = {p.default!r}\t{p.doc}; {p.allowed}")
        return
    given = parameters.pairs(parameter or ())
    given += parameters.pairs_from_yaml(params) if params else []
    todo, out = replace(page.run(given), rules=_rules(root, page.name)), out or root / "runs"
    folder, message = perform(todo, root, out, force=force, say=progress(page.name))
    say(f"{folder}: {message}" + "; --force runs it again" * message.startswith("skipped"))
    if html:
        _html(todo, root, folder, out, show=show)


@app.command()
def sweep(
    notebook: Notebook,
    grid: Annotated[
        list[str] | None,
        Option(metavar="NAME=A,B,C", help="or NAME=0:30 (0 to 29); all combinations"),
    ] = None,
    parameter: Values = None,
    params: Annotated[Path | None, Option(help="file of grids, or of points")] = None,
    out: Out = None,
    dry_run: Annotated[bool, Option("--dry-run", help="only print the plan")] = False,
    workers: Annotated[int | None, Option(metavar="K", help="number of processes")] = None,
    scheduler: Annotated[str | None, Option(metavar="ADDRESS", help="of a Dask scheduler")] = None,
    html: Annotated[bool, Option("--html", help="make a page of each run")] = False,
    fresh: Annotated[bool, Option("--fresh", help="start each kernel afresh")] = False,
) -> None:
    """Run a notebook over a grid of parameters."""
    from companion.running import parameters
    from companion.running import sweep as sweeps
    from companion.running.grid import expand
    from companion.running.page import load_page
    from companion.running.run import done

    root = checkout()
    page, out = load_page(root, notebook), out or root / "runs"
    rules = _rules(root, page.name)
    blocks = parameters.grids_from_yaml(params) if params else None
    todo = [replace(one, rules=rules) for one in expand(page, grid or (), blocks, parameter or ())]
    sweeps.check(todo, scheduler, workers)
    if scheduler is None and (lack := _lacking(page.downloads, root)):
        raise ValueError(f"{page.name}: {lack}.")
    if dry_run:
        sweeps.plan(todo, out, say)
        return
    options: Any = {"scheduler": scheduler, "workers": workers, "fork": not fresh, "say": say}
    failed = None
    try:
        count = sweeps.sweep(todo, root, out, **options)
        say(f"{count['done']} done, {count['skipped']} skipped, in {out / page.name}")
    except RuntimeError as error:  # some runs failed; the others get their pages
        failed = error
    for one in (r for r in todo if html and done(out / page.name / r.id)):
        _html(one, root, out / page.name / one.id, out)
    if failed:
        raise failed


@app.command()
def runs(
    notebook: Annotated[str | None, typer.Argument(metavar="[NOTEBOOK]")] = None,
    out: Out = None,
    csv: Table = None,
    parquet: Table = None,
    older: Annotated[bool, Option("--older", help="add runs of older sources")] = False,
) -> None:
    """List runs, or write their results as one table."""
    from companion.running import table
    from companion.running.page import load_page

    root = checkout()
    out = out or root / "runs"
    found = table.find(root, out, [load_page(root, notebook).name] if notebook else None)
    if not (csv or parquet):
        for row in found[found.columns[:6]].itertuples(index=False):
            say("{} {} {} {} {} s {}".format(*row))
        say(f"{len(found)} runs in {out}")
        return
    rows = table.results(found, older=older)
    for path, write in ((csv, table.write_csv), (parquet, table.write_parquet)):
        if path:
            write(rows, path)
            say(f"{len(rows)} rows written to {path}")


@app.command()
def pages(
    notebook: Annotated[list[str] | None, typer.Argument(metavar="[NOTEBOOK]...")] = None,
    everything: Annotated[bool, Option("--all", help="execute all, not only stale ones")] = False,
    check: Annotated[bool, Option("--check", help="only look; exit 1 if one is stale")] = False,
) -> int:
    """Execute the pages that are stale."""
    from companion.running.page import load_page
    from companion.running.pages import refresh

    root = checkout()
    names = notebook or sorted(p.stem for p in (root / "notebooks").glob("*.md"))
    found = [load_page(root, name) for name in names]
    here = (root / "notebooks").glob("*.ipynb")
    lonely = [] if notebook else [p for p in here if not p.with_suffix(".md").exists()]
    for path in sorted(lonely):
        say(f"{path.stem}: has no text notebooks/{path.stem}.md beside it")
    lacks = {p.name: None if os.environ.get("CI") else _lacking(p.downloads, root) for p in found}
    bad = refresh(found, root, everything=everything, check=check, lacks=lacks, say=say)
    return int(bool(bad or lonely))


@app.command()
def new(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Write the skeleton of a page of your own."""
    from companion.running.pages import write_new

    say(write_new(checkout(), name))


@app.command()
def claims(
    write: Annotated[bool, Option("--write", help="write book/results/claims.json")] = False,
) -> None:
    """List the ledger: every claim and its verdict."""
    from companion.ledger import judge, readings

    root = checkout()
    if write:
        written = readings.publish(root)
        say(f"written: {', '.join(written)}" if written else "the ledger is up to date")
        return
    rows = judge.ledger(root)
    for row in rows:
        say(f"{row.claim.id:20} {' '.join(filter(None, (row.finding.verdict, row.finding.why)))}")
    count = Counter(row.finding.verdict for row in rows)
    say(f"{len(rows)} claims: " + ", ".join(f"{n} {verdict}" for verdict, n in count.items()))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN.safetensors")],
    target: Annotated[Path, typer.Argument(metavar="OUT.safetensors")],
    input_bound: Annotated[float, Number("largest norm of an input")],
    nonlinearity: Annotated[str | None, Option(help="relu or tanh, if not in IN")] = None,
    horizon: Annotated[int | None, Option(metavar="T", help="equality for T steps only")] = None,
    initial_bound: Annotated[float | None, Number("largest norm of an initial state")] = None,
    rescale: Annotated[bool, Option("--rescale", help="scale a norm from 0.99 on down")] = False,
    prefix: Annotated[str | None, Option(help="if IN has several: prefix of the keys")] = None,
    pad_readout: Annotated[
        list[str] | None, Option(metavar="KEY", help="widen this readout; repeatable")
    ] = None,
    force: Force = False,
) -> None:
    """Turn a saved contractive torch RNN into a unitary one."""
    from companion import convert_file

    say(convert_file(source, target, input_bound, nonlinearity=nonlinearity, horizon=horizon,
                     initial_bound=initial_bound or 0.0, rescale=rescale, prefix=prefix,
                     pad_readout=pad_readout or (), overwrite=force))  # fmt: skip


@app.command()
def witness(
    student: Annotated[Path, typer.Argument(metavar="STUDENT.safetensors")],
    input_bound: Annotated[float | None, Number("for ReLU: largest |input entry|")] = None,
    certificate: Annotated[Path | None, Option(metavar="FILE.json", help="save the proof")] = None,
    force: Force = False,
) -> None:
    """Find an input on which a network differs from the memoryless teacher."""
    from companion import certify_witness, find_sigmoid_witness, find_witness, load_rnn

    if certificate is not None and certificate.exists() and not force:
        raise ValueError(f"{certificate} exists; name another file, or use --force.")
    network = load_rnn(student)
    if network.activation in ("sigmoid", "tanh"):
        if input_bound is not None:
            raise ValueError(
                f"--input-bound is for ReLU students; this one has {network.activation!r}, and the "
                "input that refutes it is not confined to a box."
            )
        found = find_sigmoid_witness(network)
    elif input_bound is None:
        raise ValueError("--input-bound X is needed for a ReLU student: every |input entry| ≤ X.")
    else:
        found = find_witness(network, input_bound)
    proof = certify_witness(network, found, input_bound=input_bound)
    say(f"input, step by step: {found.input.tolist()}\n{proof}")
    if certificate is not None:
        proof.save(certificate)
        say(f"written to {certificate}; check it with: companion certify {certificate}")


@app.command()
def certify(certificate: Annotated[Path, typer.Argument(metavar="FILE.json")]) -> None:
    """Check a saved certificate again."""
    from companion import CertificateError, recheck

    try:
        say(recheck(certificate))
    except CertificateError as error:
        raise RuntimeError(f"{certificate} proves nothing: {error}") from None
    say("proved again from the file alone")


@app.command()
def data(
    name: Annotated[str, typer.Argument(metavar="mnist")],
    source: Annotated[Path | None, Option("--from", metavar="DIR", help="copy from there")] = None,
    here: Annotated[bool, Option("--here", help="only look; exit 1 if not here")] = False,
) -> None:
    """Download the digits of Figure 4 (MNIST)."""
    from companion.experiments import mnist

    if name != "mnist":
        raise ValueError(f"no data set {name[:40]!r}; allowed: mnist.")
    folder = mnist.cache(checkout())
    if here:
        mnist.load(folder)
        say(f"MNIST: in {folder}. {mnist.CREDIT}")
    else:
        mnist.fetch(folder, directory=source)


def _prepare() -> None:
    """Make streams that can print anything, and have every way to stop a job clean up."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: what is opened next would take its place
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    for name in ("SIGTERM", "SIGHUP", "SIGQUIT"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
            signal.signal(number, signal.default_int_handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    _prepare()
    _given.update(command="", root=None, traceback=False)
    try:
        if sys.flags.optimize:
            raise ValueError("python -O (PYTHONOPTIMIZE) drops every assertion; start it without.")
        code = typer.main.get_command(app).main(argv, "companion", standalone_mode=False) or 0
        message = "interrupted; nothing half-written is left" if code == 130 else ""
    except Exception as error:  # noqa: BLE001  # whatever was raised is told in words
        code, message = (2 if isinstance(error, REFUSED) else 1), str(error)
        if isinstance(error, TyperException):  # of the options themselves
            message = f"{error.format_message()} See `companion --help`."
        elif not isinstance(error, (*REFUSED, RuntimeError, OSError)):
            message = f"{type(error).__name__}: {error} (companion --traceback … shows where)"
        if _given["traceback"]:
            traceback.print_exc()
    if message:
        say(f"companion {_given['command']}: {message}".replace(" :", ":"), error=True)
    return int(code)
