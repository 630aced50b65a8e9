"""What the companion does when things go wrong: tries of each family, counted by outcome.

    .venv/bin/python tests/faults/run.py [--seconds S] [--seed N] [--only FAMILY] [--json FILE]

It works in temporary folders, speaks to loopback alone, and ends within some minutes. An outcome
that should not be is named by its seed; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from conftest import write_page  # noqa: E402  # of the tests

from companion import cli  # noqa: E402

PARAMETERS = """
n: int = 4  # states, 1 to 64
seed: int = 0  # seed, in [0, inf)
rate: float = 0.5  # rate, in (0, 1]
kind: str = "a"  # kind, one of: a, b
label: str = "x"  # a label
"""
CODE = """
import json, os, time
from pathlib import Path
results = Path(os.environ["COMPANION_RESULTS"])
for step in range(4):
    time.sleep(0.1)
_ = (results / "values.json").write_text(json.dumps({"square": n * n, "shown": label}))
"""
Try = Callable[[random.Random, Path], str]
GOOD = ("refused", "ran", "resumed", "reported", "checked", "shown")
FAMILIES: dict[str, Try] = {}


class Bad(AssertionError):
    """What should not happen."""


def family(function: Try) -> Try:
    """Name a family of faults by its function."""
    FAMILIES[function.__name__.replace("_", " ")] = function
    return function


def command(root: Path, *words: str, **more: object) -> subprocess.Popen[str]:
    """Start the command line on a checkout."""
    env = {**os.environ, "PYTHONPATH": str(root / "src"), **more.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.Popen(
        [sys.executable, "-m", "companion", "--root", str(root), *words], env=env, encoding="utf-8",
        errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root, **more,  # type: ignore[call-overload]
    )  # fmt: skip


def end(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str]:
    """Wait for a command; a traceback, or one that does not end, should not be."""
    try:
        said, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Bad(f"{process.args} did not end within {seconds:.0f} s") from None
    if "Traceback" in errors:
        raise Bad(errors[-800:])
    return process.returncode, said + errors


def here(root: Path, *words: str) -> tuple[int, str]:
    """Run the command line in this process, which must not raise."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["--root", str(root), *words])
    return code, out.getvalue() + err.getvalue()


def finished(root: Path) -> list[Path]:
    """Folders of complete runs; anything half-written should not be."""
    folder = root / "runs" / "demo"
    names = [p for p in folder.iterdir() if p.name != "logs"] if folder.is_dir() else []
    for path in names:
        whole = {"demo.ipynb", "record.json", "results"} <= {p.name for p in path.iterdir()}
        if path.name.startswith(".") or not whole:
            raise Bad(f"left behind: {path}")
    return [p for p in names if not p.name.endswith(".failed")]


@family
def a_run_is_stopped(rng: random.Random, root: Path) -> str:
    """By a signal of any kind at any moment; the same command then finishes it."""
    shutil.rmtree(root / "runs", ignore_errors=True)
    process = command(root, "run", "demo", "--no-html")
    time.sleep(rng.uniform(0, 4))
    process.send_signal(
        rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
    )
    end(process)
    code, said = end(command(root, "run", "demo", "--no-html"))
    if code != 0 or len(finished(root)) != 1:
        raise Bad(said)
    return "resumed"


@family
def a_sweep_and_its_workers_are_killed(rng: random.Random, root: Path) -> str:
    """Any of its processes, at any moment; then the same command runs what is left, each once.

    All but Python's own tracker of semaphores: where that is killed, Python itself says so, in
    tracebacks, and the sweep ends in words.
    """
    shutil.rmtree(root / "runs", ignore_errors=True)
    words = ("sweep", "demo", "--grid", "n=1:7", "--workers", "2")
    process = command(root, *words)
    time.sleep(rng.uniform(1, 8))
    family_ = children(process.pid)
    victims = rng.sample(family_, min(len(family_), rng.randint(1, 3)))
    for pid in victims + [process.pid] * (rng.random() < 0.7):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end(process, 180)
    for _ in range(3):  # a run whose kernel was killed has failed; it is run again
        code, said = end(command(root, *words), 180)
        if code == 0:
            break
    if code != 0 or len(finished(root)) != 6:
        raise Bad(said)
    return "resumed"


def children(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                child = int(path.parent.name)
                tracker = b"resource_tracker" in Path(f"/proc/{child}/cmdline").read_bytes()
                found += [*[child] * (not tracker), *children(child)]
    return found


@family
def a_parameter_is_anything(rng: random.Random, root: Path) -> str:
    """Random text as a value, in the command and in a file: refused in words, or the value."""
    pieces = [*"0123456789.+-eE_ []{}():,'\"\\\n\t\0\x1b", "nan", "inf", "1e999", "__import__", "٣",
              "true", "a", "b", "{{x}}", "$(ls)", "!!python/name:os.system", "&a", "☃"]  # fmt: skip
    text = "".join(rng.choice(pieces) for _ in range(rng.randint(0, 8)))
    name = rng.choice(["n", "seed", "rate", "kind", "label", "m", text])
    if rng.random() < 0.5:
        code, said = here(root, "sweep", "demo", "--dry-run", "-p", f"{name}={text}")
    else:
        (root / "points.yaml").write_text(f"{name}: {text}\n", encoding="utf-8")
        code, said = here(root, "sweep", "demo", "--dry-run", "--params", str(root / "points.yaml"))
    if code not in (0, 2) or "Traceback" in said:
        raise Bad(f"{name}={text!r}: {code} {said[-300:]}")
    return "refused" if code else "checked"


@family
def a_text_tries_to_get_out(rng: random.Random, root: Path) -> str:
    """A printable text with quotes and escapes reaches the page as that text, and runs nothing."""
    pieces = [
        "'",
        '"',
        "\\",
        "\\n",
        "{",
        "}",
        "#",
        "%ls",
        "!ls",
        ";",
        "open('/tmp/x','w')",
        " ",
        "é",
    ]
    text = "x" + "".join(rng.choice(pieces) for _ in range(rng.randint(1, 12)))
    shutil.rmtree(root / "runs", ignore_errors=True)
    code, said = end(command(root, "run", "demo", "--no-html", "-p", f"label={text}"))
    if code != 0:
        raise Bad(f"{text!r}: {said}")
    [folder] = finished(root)
    if json.loads((folder / "results/values.json").read_text())["shown"] != text:
        raise Bad(f"{text!r} became another")
    return "ran"


@family
def a_disk_is_full(rng: random.Random, root: Path) -> str:
    """No file grows past a limit: it is said, nothing half-written stays, and later it runs."""
    shutil.rmtree(root / "runs", ignore_errors=True)
    most = rng.randint(1, 6000)
    code, said = end(
        command(
            root, "run", "demo", "--no-html",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        )
    )  # fmt: skip
    if code not in (0, 1) or (code and "cannot write" not in said and "companion run:" not in said):
        raise Bad(said)
    finished(root)
    return "reported" if code else "ran"


@family
def a_limit_of_the_system(rng: random.Random, root: Path) -> str:
    """Few open files or little memory: said in words before anything starts, or it runs."""
    kind, most = rng.choice(
        [(resource.RLIMIT_NOFILE, rng.randint(16, 140)),
         (resource.RLIMIT_AS, rng.randint(400, 3000) << 20)]
    )  # fmt: skip
    shutil.rmtree(root / "runs", ignore_errors=True)
    words = rng.choice([("run", "demo", "--no-html"), ("sweep", "demo", "--workers", "2")])
    code, said = end(
        command(root, *words, preexec_fn=lambda: resource.setrlimit(kind, (most, most)))
    )
    if code not in (0, 1, 2) or "companion" not in said:
        raise Bad(f"{kind} {most}: {said}")
    finished(root)
    return "reported" if code else "ran"


@family
def a_record_is_damaged(rng: random.Random, root: Path) -> str:
    """Bytes of a finished run are cut or changed: other commands still answer."""
    if not (root / "runs" / "demo").is_dir() or not finished(root):
        shutil.rmtree(root / "runs", ignore_errors=True)
        end(command(root, "run", "demo", "--no-html"))
    [folder, *_] = finished(root)
    path = folder / rng.choice(["record.json", "results/values.json"])
    before = path.read_bytes()
    data = bytearray(before)
    if rng.random() < 0.4:
        data = data[: rng.randrange(len(data))]
    else:
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(bytes(data))
    try:
        for words in (["runs"], ["runs", "demo", "--csv", str(root / "t.csv")],
                      ["sweep", "demo", "--dry-run"]):  # fmt: skip
            code, said = here(root, *words)
            if code not in (0, 2):
                raise Bad(f"{words}: {code} {said[-300:]}")
    finally:
        path.write_bytes(before)
    return "reported" if code else "shown"


@family
def a_switch_of_the_users(rng: random.Random, root: Path) -> str:
    """Variables of interpreter and libraries: the results are the same, or the run is refused."""
    switches = {
        "PYTHONOPTIMIZE": "1", "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1",
        "PYTHONHASHSEED": "7", "PYTHONSTARTUP": "/nonexistent", "MATPLOTLIBRC": "/nonexistent",
        "NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "3", "PYTHONIOENCODING": "cp1252",
        "LC_ALL": "C", "IPYTHONDIR": str(root), "JUPYTER_CONFIG_DIR": str(root),
        "DASK_DISTRIBUTED__WORKER__LIFETIME__DURATION": "1s", "PYTHONUTF8": "0",
    }  # fmt: skip
    chosen = {k: switches[k] for k in rng.sample(sorted(switches), rng.randint(1, 4))}
    shutil.rmtree(root / "runs", ignore_errors=True)
    words = (
        ("run", "demo", "--no-html") if rng.random() < 0.7 else ("sweep", "demo", "--workers", "1")
    )
    code, said = end(command(root, *words, env=chosen))
    if code == 2 and "PYTHONOPTIMIZE" in chosen:
        return "refused"
    if code != 0 or len(finished(root)) != 1:
        raise Bad(f"{chosen}: {said[-500:]}")
    return "ran"


@family
def a_scheduler_that_is_none(rng: random.Random, root: Path) -> str:
    """A port that is closed, or silent, or says anything: the sweep ends and says so."""
    from companion.running.grid import expand
    from companion.running.page import load_page
    from companion.running.record import Failed
    from companion.running.sweep import sweep

    shutil.rmtree(root / "runs", ignore_errors=True)
    todo = expand(load_page(root, "demo"))
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        if rng.random() < 0.6:
            peer.listen()
        address = f"tcp://127.0.0.1:{peer.getsockname()[1]}"
        start = time.monotonic()
        try:
            sweep(todo, root, root / "runs", scheduler=address, seconds=1, say=lambda _: None)
        except Failed:
            pass
        else:
            raise Bad("it found workers")
    if time.monotonic() - start > 30:
        raise Bad(f"it took {time.monotonic() - start:.0f} s")
    return "reported"


@family
def a_certificate_is_changed(rng: random.Random, root: Path) -> str:
    """A published certificate with anything changed: refused in words, or proved as it stands."""
    path = rng.choice(sorted((ROOT / "book/results/certificates").glob("*.json")))
    text = path.read_text("utf-8")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(string.printable) + text[at + rng.randint(0, 3) :]
    changed = root / "certificate.json"
    changed.write_text(text, encoding="utf-8")
    start = time.monotonic()
    code, said = here(root, "certify", str(changed))
    if code not in (0, 1, 2) or time.monotonic() - start > 60:
        raise Bad(f"{path.name}: {code} in {time.monotonic() - start:.0f} s: {said[-300:]}")
    return "refused" if code else "checked"


def tries(name: str, seed: int, seconds: float, root: Path) -> Iterator[tuple[int, str]]:
    """Make tries of a family for some time; yields each with its outcome."""
    stop, number = time.monotonic() + seconds, 0
    while number == 0 or time.monotonic() < stop:
        try:
            outcome = FAMILIES[name](random.Random(f"{name} {seed} {number}"), root)  # noqa: S311
        except Bad as error:
            outcome = f"BAD: {error}"
        yield number, outcome
        number += 1


def main() -> int:
    """Try every family; print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="for each family")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(FAMILIES))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows, bad = [], 0
    with tempfile.TemporaryDirectory(prefix="companion faults ü ") as folder:
        root = Path(folder) / "a 'checkout'"
        (root / "notebooks").mkdir(parents=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src", root / "src", ignore=ignore)
        for pins in ROOT.glob("constraints*.txt"):
            shutil.copy(pins, root)
        write_page(root, "demo", PARAMETERS, CODE)
        for name in [given.only] if given.only else FAMILIES:
            count: Counter[str] = Counter()
            for number, outcome in tries(name, given.seed, given.seconds, root):
                count[outcome if outcome in GOOD else "bad"] += 1
                if outcome not in GOOD:
                    bad += 1
                    print(f"{name}, seed {given.seed}, try {number}: {outcome}", flush=True)
            about = (FAMILIES[name].__doc__ or "").splitlines()[0]
            rows.append({"family": name, "what": about, "tries": count.total(), **count})
            print(f"{name}: {count.total()} tries, {dict(count)}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
