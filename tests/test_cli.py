from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pytest

from companion import RNN, cli
from companion.running import kernel
from companion.theory.files import save_rnn

PARAMETERS = "n: int = 4  # states, 1 to 64"
FILE = '\nof: str = "none"  # of yours: path of a file, or none'
CODE = 'print(n)\nassert n != 7, "seven"'
Make = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path, make_checkout: Make, write_page: Make) -> Path:
    root = make_checkout(tmp_path / "checkout")
    write_page(root, "demo", PARAMETERS, CODE)
    return root


def never(*_: object, **__: object) -> Any:
    raise AssertionError("a kernel was started")


def test_run_does_it_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--root", str(root), "run", "demo", "-p", "n=5"]
    assert cli.main(command) == 0
    assert ": done in" in capsys.readouterr().out
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "skipped: ran at" in said
    assert "--force" in said
    assert cli.main([*command[:-1], "n=7"]) == 1
    error = capsys.readouterr().err
    assert "companion run: demo failed in code cell 3 of 3, line 2 (`assert n != 7" in error
    assert ".failed/demo.ipynb" in error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["dmo"], "no notebook 'dmo'; Did you mean demo?"),
        (["../demo"], "outside"),
        (["demo", "-p", "n=0"], "parameter n is '0'; allowed: int in [1, 64]"),
        (["demo", "-p", "n=nan"], "allowed: int in [1, 64]"),
        (["demo", "-p", "n="], "parameter n is ''"),
        (["demo", "-p", "m=4"], "'m' is unknown to demo"),
        (["demo", "-p", "n"], "malformed"),
        (["demo", "-p", "n=4", "-p", "n=4"], "given twice"),
        (["demo", "--params", "missing.yaml"], "missing.yaml cannot be read"),
        (["demo", "--params", "p.yaml", "-p", "n=4"], "given twice"),
        (["bad"], "line `n: int = 4` of the parameters cell: its comment"),
        (["d\0"], "outside"),
    ],
)
def test_bad_input_is_refused_before_a_kernel_starts(
    root: Path,
    write_page: Make,
    args: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(kernel, "execute", never)
    monkeypatch.chdir(root)
    (root / "p.yaml").write_text("n: 4\n")
    write_page(root, "bad", PARAMETERS.partition("  #")[0], CODE)
    assert cli.main(["--root", str(root), "run", *args]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("companion run: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (root / "runs").exists()


def test_parameters_are_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--root", str(root), "run", "demo", "--help-parameters"]) == 0
    assert capsys.readouterr().out == "n: int = 4\tstates; int in [1, 64]\n"


def test_pages_says_what_it_does_and_why(
    root: Path,
    write_page: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pages(*args: str) -> tuple[int, str, str]:
        code = cli.main(["--root", str(root), "pages", *args])
        return code, *capsys.readouterr()

    failing = write_page(root, "failing", PARAMETERS, CODE.replace("n != 7", "n == 7"))
    code, said, error = pages()
    assert code == 1
    assert said.splitlines()[0] == "demo: stale (never executed)"
    assert said.splitlines()[1].startswith("demo: executed in")
    assert error.startswith("failing: failing failed in code cell 2 of 2, line 2 (`assert n == 7")
    assert not failing.with_suffix(".ipynb").exists()
    failing.unlink()
    assert pages("demo", "--all")[1].startswith("demo: asked for (--all)\ndemo: executed in")

    monkeypatch.setattr(kernel, "execute", never)
    fresh = (0, "demo: skipped, fresh (same text, sources, pins and data)\n", "")
    assert pages() == pages("--check") == fresh
    (root / "constraints.txt").write_text("numpy==2\n")
    assert pages("--check") == (1, "demo: stale (pins changed)\n", "")
    (root / "notebooks/demo.md").rename(root / "notebooks/other.md")
    code, said, _ = pages("--check")
    assert code == 1
    assert said.startswith("demo: has no text notebooks/demo.md beside it\nother: stale")
    monkeypatch.setattr("companion.running.pages.stale", lambda *_: list("abcdefg"))
    assert "other: stale (a; b; c; d; 3 more)\n" in pages("--check")[1]


def test_elsewhere_than_in_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--root", str(tmp_path), "pages"]) == 2
    assert "is no checkout of the companion" in capsys.readouterr().err


def test_convert_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "model.pt"
    assert cli.main(["convert", str(source), "x.safetensors", "--input-bound", "3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("companion convert: source is")
    assert "safetensors" in error


def test_convert_writes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from safetensors.torch import save_file

    module = torch.nn.RNN(2, 3, nonlinearity="relu", dtype=torch.float64)
    with torch.no_grad():
        module.weight_hh_l0.mul_(0.5 / torch.linalg.matrix_norm(module.weight_hh_l0, 2))
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(module.state_dict(), source)
    command = ["convert", str(source), str(target), "--input-bound", "3"]
    assert cli.main(command) == 2
    assert "--nonlinearity" in capsys.readouterr().err
    assert cli.main([*command, "--nonlinearity", "relu"]) == 0
    assert "3 -> 6 states" in capsys.readouterr().out
    assert target.is_file()
    assert cli.main(command) == 2  # nothing is started where the target exists
    assert "--force" in capsys.readouterr().err


def test_convert_has_what_the_function_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two networks in a file, one of norm 3 but for a scaling; the whole model loads again."""
    import torch
    from safetensors.torch import load_file, save_file

    model = torch.nn.ModuleDict(
        {
            "a": torch.nn.RNN(2, 2, nonlinearity="relu"),
            "b": torch.nn.RNNCell(2, 4),
            "fc": torch.nn.Linear(2, 1),
        }
    )
    with torch.no_grad():
        model["a"].weight_hh_l0.copy_(torch.tensor([[0.5, 3.0], [0.0, 0.5]]))
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(model.state_dict(), source)
    command = ["convert", str(source), str(target), "--input-bound", "3", "--nonlinearity", "relu"]
    assert cli.main(command) == 2
    assert "--prefix" in capsys.readouterr().err
    command += ["--prefix", "a."]
    assert cli.main(command) == 2
    assert "--rescale" in capsys.readouterr().err
    command += ["--rescale", "--initial-bound", "1", "--horizon", "20"]
    assert cli.main([*command, "--pad-readout", "fc.weight"]) == 0
    said = capsys.readouterr().out
    assert "state scale" in said
    assert "padded         fc.weight" in said
    again = torch.nn.ModuleDict(
        {
            "a": torch.nn.RNN(2, 4, nonlinearity="relu"),
            "b": torch.nn.RNNCell(2, 4),
            "fc": torch.nn.Linear(4, 1),
        }
    )
    again.load_state_dict(load_file(target))
    x = torch.rand(20, 3, 2)
    torch.testing.assert_close(again["fc"](again["a"](x)[0]), model["fc"](model["a"](x)[0]))


@pytest.mark.parametrize("args", [[], ["unknown"], ["run"], ["convert", "a", "b"], ["pages", "-x"]])
def test_usage_errors_exit_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    assert "See `companion --help`" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom companion import cli\ncli.main(['--help'])\n"
        "print(sorted({'torch', 'nbclient', 'jupytext', 'papermill', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def a_student(path: Path, activation: str = "relu", n: int = 2) -> Path:
    """One state fewer than the ReLU teacher needs, on an orthogonal recurrence."""
    N = 2 * n - 1
    F = np.eye(N, n)
    W = np.eye(N)[[*range(1, N), 0]]
    save_rnn(RNN(W, F, np.zeros(N), F.T, np.zeros(N), activation), path)
    return path


@pytest.mark.parametrize(
    ("activation", "options"), [("relu", ["--input-bound", "1"]), ("sigmoid", []), ("tanh", [])]
)
def test_a_witness_is_printed_saved_and_proved_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], activation: str, options: list[str]
) -> None:
    student = a_student(tmp_path / "student.safetensors", activation)
    proof = tmp_path / "proof.json"
    assert cli.main(["witness", str(student), *options, "--certificate", str(proof)]) == 0
    said = capsys.readouterr().out
    assert "they differ by at least" in said
    assert cli.main(["certify", str(proof)]) == 0
    again = capsys.readouterr().out
    assert again.splitlines()[0] in said
    assert cli.main(["witness", str(student), *options, "--certificate", str(proof)]) == 2
    assert "--force" in capsys.readouterr().err
    proof.write_text(proof.read_text().replace("student", "teacher"))
    assert cli.main(["certify", str(proof)]) == 1
    assert "proves nothing" in capsys.readouterr().err


def test_what_is_no_candidate_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = str(a_student(tmp_path / "student.safetensors"))
    smooth = str(a_student(tmp_path / "smooth.safetensors", "tanh"))
    large = tmp_path / "large.safetensors"
    save_rnn(RNN(np.eye(4), np.eye(4, 2), np.zeros(4), np.eye(2, 4), np.zeros(4)), large)
    for arguments, complaint in (
        ([student], "--input-bound X is needed"),
        ([student, "--input-bound", "-1"], "input_bound is"),
        ([smooth, "--input-bound", "1"], "--input-bound is for ReLU"),
        ([str(large), "--input-bound", "1"], "N = 4"),
        ([str(tmp_path / "none.safetensors"), "--input-bound", "1"], "not a file"),
    ):
        assert cli.main(["witness", *arguments]) == 2
        assert complaint in capsys.readouterr().err


def ended(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that finds this package, when it has ended."""
    source = str(Path(cli.__file__).parents[1])
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": source, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def companion(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it."""
    return ended(sys.executable, "-m", "companion", *arguments, **environment)


def shell(root: Path, before: str, command: str) -> subprocess.CompletedProcess[str]:
    """The command by way of a shell, behind what the shell does before."""
    start = f"{quote(sys.executable)} -m companion --root {quote(str(root))}"
    return ended("bash", "-c", f"{before} {start} {command}")


def test_the_version_is_printed() -> None:
    done = companion("--version")
    assert (done.returncode, done.stdout[:11]) == (0, "companion 0")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-16"])
def test_any_encoding_prints_any_name(root: Path, encoding: str) -> None:
    done = companion("--root", str(root), "run", "‖W‖☃", PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_what_a_terminal_would_obey_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    cli.say("a\x1b[2Jb\x9b\x07\tc\n")
    assert capsys.readouterr().out == "a\\x1b[2Jb\\x9b\\x07\tc\n\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_change_nothing_but_what_is_said(root: Path, closed: str) -> None:
    assert shell(root, "", f"run demo -p n=5 {closed}").returncode == 0
    [record] = (root / "runs/demo").glob("*/record.json")
    assert "error" not in record.read_text()


@pytest.mark.parametrize("text", ["٣", "1_0", "nan", "inf", "1e", "", "0x10", " 1", "１"])
@pytest.mark.parametrize("command", [["convert", "a", "b"], ["witness", "a"]])
def test_a_bound_is_spelt_as_in_a_program(
    command: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, f"--input-bound={text}"]) == 2
    assert "is not a number such as 1.5" in capsys.readouterr().err


def test_what_a_library_raises_is_put_into_words(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Odd(Exception):
        pass

    def fails(*_: object, **__: object) -> None:
        raise Odd("from below")

    monkeypatch.setattr(kernel, "execute", fails)
    assert cli.main(["--root", str(root), "run", "demo"]) == 1
    said = capsys.readouterr().err
    assert "companion run: Odd: from below" in said
    assert "Traceback" not in said
    assert cli.main(["--traceback", "--root", str(root), "run", "demo"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_new_page_works_at_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from companion.running.page import load_page

    assert cli.main(["--root", str(root), "new", "my-page"]) == 0
    assert "notebooks/my-page" in capsys.readouterr().out
    page = load_page(root, "my-page")
    assert [p.name for p in page.parameters] == ["n", "seed"]
    for name, message in (("my-page", "exists"), ("../x", "allowed"), ("A b", "allowed")):
        assert cli.main(["--root", str(root), "new", name]) == 2
        assert message in capsys.readouterr().err


SPECIAL = ["fifo", "socket", "device", "folder", "link to a fifo"]


@pytest.fixture
def special(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of what has a name and is no file."""
    folder = tmp_path / "special"
    (folder / "folder").mkdir(parents=True)
    os.mkfifo(folder / "fifo")
    (folder / "link to a fifo").symlink_to("fifo")
    if os.geteuid() == 0:  # who could replace the system's own
        os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    else:
        (folder / "device").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)  # the address of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("socket")
    return folder


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize(
    "command",
    ["run demo -p of=X", "run demo --params X", "sweep demo -p of=X", "sweep demo --params X",
     "witness X --input-bound 1", "certify X", "convert X out.safetensors --input-bound 1",
     "runs --csv X", "runs --parquet X"],
)  # fmt: skip
def test_what_is_no_file_is_refused_at_once(
    root: Path,
    write_page: Make,
    special: Path,
    command: str,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def waited(*_: object) -> None:
        raise AssertionError("it waited")

    write_page(root, "demo", PARAMETERS + FILE, CODE)
    if command.startswith("convert"):
        (special / name).rename(special / f"{name}.safetensors")
        name += ".safetensors"
    before = sorted((path.name, path.lstat().st_mode) for path in special.iterdir())
    signal.signal(signal.SIGALRM, waited)
    signal.alarm(60)
    try:
        code = cli.main(["--root", str(root), *(w.replace("X", name) for w in command.split())])
    finally:
        signal.alarm(0)
    assert code == (1 if command == "certify X" else 2)  # which says: proves nothing
    said = capsys.readouterr().err
    assert name in said
    assert "it waited" not in said
    assert sorted((path.name, path.lstat().st_mode) for path in special.iterdir()) == before
    assert not (root / "runs").exists()


@pytest.mark.parametrize(
    ("limit", "command", "message"),
    [
        ("-n 20", "sweep demo --workers 2", "80 open files"),
        ("-n 200", "sweep demo --workers 20", "360 open files"),
        ("-n 60", "run demo", "80 open files"),
        ("-n 60", "pages demo", "80 open files"),
        ("-v 700000", "run demo", "address space"),
        ("-v 1000000", "sweep demo --workers 2", "threads and processes"),
        ("-f 4", "run demo", "cannot write .*File too large"),
        ("-f 4", "sweep demo --workers 2", "cannot write .*File too large"),
    ],
)
def test_a_limit_of_the_system_is_met_in_words_before_anything_starts(
    root: Path, limit: str, command: str, message: str
) -> None:
    done = shell(root, f"ulimit {limit}; exec", command)
    assert done.returncode in (1, 2)
    [said] = done.stderr.splitlines()
    assert re.search(message, said)
    assert "cannot write" in said or re.search(r"raise its limit \(`ulimit -[nuv]`", said)
    assert not list(root.glob("runs/demo/[!l]*"))


def test_too_few_processes_are_refused(tmp_path: Path) -> None:
    script = """
import os, resource, sys
from pathlib import Path
from companion.running.limits import check
from companion.running.record import Refused
folder = Path(sys.argv[1])
check(folder, 2)
if os.geteuid() == 0:  # to whom the limit means nothing
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    check(folder, 3)
except Refused as error:
    print(error)
"""
    (tmp_path / "out").mkdir(mode=0o777)
    source = str(Path(cli.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")], text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": source}, timeout=60,
    )  # fmt: skip
    assert "takes 112 threads and processes" in done.stdout, done.stderr
    assert "fewer --workers" in done.stdout
    assert list((tmp_path / "out").iterdir()) == []
