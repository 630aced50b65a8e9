from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from companion import cli
from companion.running import execute, kernel
from companion.running import page as pages
from companion.running import pages as book
from companion.running import record as provenance
from companion.running import run as runs
from companion.running.record import Failed, Refused

PARAMETERS = """
n: int = 4  # number of states, 1 to 64
norm: float = 0.5  # spectral norm, in (0, 1]
seed: int = 0  # seed of every draw, in [0, inf)
dtype: str = "a"  # arithmetic, one of: a, b
label: str = "x y"  # a label
plot: bool = True  # whether to draw
"""
CODE = """
import os
from pathlib import Path
from companion import f
results = Path(os.environ["COMPANION_RESULTS"])
print(f(n), os.environ["OMP_NUM_THREADS"])
_ = (results / "n.txt").write_text(str(n))
"""


Write = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path, make_checkout: Callable[..., Path], write: Write) -> Path:
    root = make_checkout(tmp_path / "checkout")
    write(root, "demo", CODE)
    return root


@pytest.fixture
def write(write_page: Callable[..., Path]) -> Write:
    def write(root: Path, name: str, code: str) -> Path:
        return write_page(root, name, PARAMETERS, code)

    return write


def read(path: Path) -> Any:
    return nbformat.reads(path.read_text(), as_version=4)


def start(root: Path, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "companion", "--root", str(root), *args)
    source = str(Path(runs.__file__).parents[2])
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


# --- pages


@pytest.mark.parametrize(
    "name", ["../demo", "..", ".", "", "/etc/passwd", "sub/demo", "notebooks/../../demo", "link"]
)
def test_notebooks_elsewhere_are_refused(root: Path, write: Write, name: str) -> None:
    (root.parent / "demo.md").write_text("secret")
    (root / "notebooks/link.md").symlink_to(root.parent / "demo.md")
    with pytest.raises(Refused, match=r"outside|no notebook"):
        pages.load_page(root, name)


def test_a_missing_notebook_names_what_there_is(root: Path, write: Write) -> None:
    with pytest.raises(Refused, match=r"no notebook 'dmo'; Did you mean demo\? there are: demo"):
        pages.load_page(root, "dmo")


def test_names_and_paths_mean_the_same_page(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = pages.load_page(root, "demo")
    path = str(root / "notebooks/demo.ipynb")
    assert pages.load_page(root, path) == pages.load_page(root, "notebooks/demo.md") == page
    monkeypatch.chdir(root / "notebooks")
    assert pages.load_page(root, "demo.md") == pages.load_page(root, "./demo.md") == page


@pytest.mark.parametrize(
    ("header", "code", "message"),
    [
        ("", "x = (", "demo.md: .*never closed .code cell 2, line 1"),
        ("companion: {data: [../secret]}", "", "no such file"),
        ("companion: {data: [missing.json]}", "", "no such file"),
        ("companion: {data: [missing/*]}", "", "no such file"),
        ("companion: {data: ['../*']}", "", "no such file"),
        ("companion: {data: ['/*']}", "", "demo.md: "),
        ("", "```\n\n```{code-cell}\n:tags: [parameters]\n1", "more than one cell"),
        ("", "```\n\n```{code-cell}\n:tags: [x\n1", "demo.md: "),
        ("title: [", "", "demo.md: "),
        ("companion: [1]", "", "demo.md: "),
    ],
)
def test_malformed_pages_are_refused(
    root: Path, write: Write, header: str, code: str, message: str
) -> None:
    (root.parent / "secret").touch()
    write(root, "demo", code)
    path = root / "notebooks/demo.md"
    path.write_text(path.read_text().replace("kernelspec:", f"{header}\nkernelspec:"))
    with pytest.raises(Refused, match=message):
        pages.load_page(root, "demo")


def test_data_are_named_one_by_one_or_by_a_pattern(root: Path, write: Write) -> None:
    write(root, "demo", "print(1)")
    path = root / "notebooks/demo.md"
    header = "companion: {data: ['results/*.json', notes.txt]}"
    path.write_text(path.read_text().replace("kernelspec:", f"{header}\nkernelspec:"))
    (root / "results/folder.json").mkdir(parents=True)
    for name in ("results/b.json", "results/a.json", "results/other.csv", "notes.txt"):
        (root / name).write_text(name)
    page = pages.load_page(root, "demo")
    assert page.data == ("results/a.json", "results/b.json", "notes.txt")
    book.execute_page(page, root)
    assert why(root) == []
    (root / "results/c.json").write_text("new")
    assert why(root) == ["data results/c.json new"]


def why(root: Path) -> list[str]:
    return book.stale(pages.load_page(root, "demo"), root)


def test_a_page_is_executed_once_and_again_when_it_is_stale(root: Path, write: Write) -> None:
    page = pages.load_page(root, "demo")
    path = root / "notebooks/demo.ipynb"
    assert why(root) == ["never executed"]
    book.execute_page(page, root)
    nb = read(path)
    assert why(root) == []
    assert [cell.get("execution_count") for cell in nb.cells] == [None, 1, 2]
    assert nb.cells[-1].outputs == [{"output_type": "stream", "name": "stdout", "text": "5 1\n"}]
    assert set(nb.metadata) == {"companion", "jupytext", "kernelspec", "language_info"}
    assert nb.metadata.companion.key == provenance.key(page.parts)
    assert nb.metadata.jupytext == {"formats": "ipynb,md:myst"}
    assert list((root / ".cache/demo").iterdir()) == []

    # the same again, but for the time it took
    book.execute_page(page, root)
    again = read(path)
    for name in ("started", "finished", "duration_s"):
        again.metadata.companion[name] = nb.metadata.companion[name]
    assert again == nb

    (root / "constraints.txt").write_text("numpy==2\n")
    (root / "src/companion/a.py").write_text("def f(n):\n    return n + 2\n")
    write(root, "demo", CODE + "\nprint('more')")
    assert why(root) == ["pins changed", "source tree changed", "text changed"]
    book.execute_page(pages.load_page(root, "demo"), root)
    assert why(root) == []


@pytest.mark.parametrize("change", ["cleared", "another", "rerun", "counted"])
def test_outputs_that_no_recorded_execution_made_are_stale(root: Path, change: str) -> None:
    path = root / "notebooks/demo.ipynb"
    book.execute_page(pages.load_page(root, "demo"), root)
    nb = read(path)
    cell = nb.cells[-1]
    if change == "cleared":
        cell.outputs, cell.execution_count = [], None
    elif change == "another":
        cell.outputs[0].text = "6 1\n"
    elif change == "rerun":
        cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text="late\n"))
    else:
        cell.execution_count = 7
    nbformat.write(nb, path)
    assert why(root) == ["its outputs are not those of the recorded execution"]
    book.execute_page(pages.load_page(root, "demo"), root)  # no work is lost
    assert why(root) == []


def test_a_notebook_that_was_only_saved_by_an_editor_is_fresh(root: Path) -> None:
    path = root / "notebooks/demo.ipynb"
    book.execute_page(pages.load_page(root, "demo"), root)
    nb = read(path)
    nb.metadata.language_info["version"] = "3.13.0"
    path.write_text(nbformat.writes(nb).replace("\n", "\r\n"))
    assert why(root) == []


EDITS: dict[str, Callable[[Any], Any]] = {
    "a cell is added": lambda nb: nb.cells.append(nbformat.v4.new_markdown_cell("mine")),
    "a cell is changed": lambda nb: nb.cells[-1].update(source="print('mine')"),
    "a word of the text is changed": lambda nb: nb.cells[0].update(source="# Mine"),
    "a cell is gone": lambda nb: nb.cells.pop(0),
    "cells are swapped": lambda nb: nb.cells.reverse(),
    "a tag is another": lambda nb: nb.cells[1].metadata.update(tags=["mine"]),
    "it has no stamp": lambda nb: (nb.cells.pop(), nb.metadata.pop("companion")),
}


@pytest.mark.parametrize("md_changes", [False, True])
@pytest.mark.parametrize("edit", EDITS)
def test_no_command_replaces_a_notebook_that_a_person_edited(
    root: Path, write: Write, edit: str, md_changes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "notebooks/demo.ipynb"
    stamped = execute.stamped(pages.load_page(root, "demo").notebook(), {"parts": {}})
    nb = nbformat.reads(stamped, as_version=4)
    EDITS[edit](nb)
    nbformat.write(nb, path)
    before = path.read_bytes()
    if md_changes:
        write(root, "demo", "print('other')")
    for arguments in (["pages"], ["pages", "--all", "demo"]):
        assert cli.main(["--root", str(root), *arguments]) == 1
        assert "jupytext --to md:myst" in capsys.readouterr().err
        assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "<<<<<<< mine", '{"cells": 3}', "[]"])
def test_a_broken_notebook_may_be_somebodys_work(root: Path, content: str) -> None:
    path = root / "notebooks/demo.ipynb"
    path.write_text(content)
    assert why(root)[0].startswith("not a notebook")
    with pytest.raises(Refused, match="was edited"):
        book.execute_page(pages.load_page(root, "demo"), root)
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\n\nassert n == 5, 'no'", r", line 3 \(`assert n == 5, 'no'`\): .*Error: no"),
        ("x = 1\nassert (\n    n\n    == 5\n)", r", line 2 \(`assert \( n == 5 \)`\): Assert"),
        ("def g():\n    assert n > 9, f'n is {n}'\n\ng()", r", line 4 \(`g\(\)`\): .*: n is 4"),
        ("import os\nif n:\n    1 / 0", r", line 3 \(`1 / 0`\): ZeroDivisionError"),
        ("import os\nos._exit(1)", ": the kernel died"),
    ],
)
def test_a_failing_page_names_the_line_and_leaves_the_committed_notebook(
    root: Path, write: Write, code: str, message: str
) -> None:
    path = root / "notebooks/demo.ipynb"
    book.execute_page(pages.load_page(root, "demo"), root)
    before = path.read_text()
    write(root, "demo", code)
    with pytest.raises(Failed, match=f"demo failed in code cell 2 of 2{message}"):
        book.execute_page(pages.load_page(root, "demo"), root)
    assert path.read_text() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["demo.ipynb", "demo.md"]


def test_sources_that_change_while_a_page_runs_are_noticed(root: Path, write: Write) -> None:
    module = root / "src/companion/a.py"
    write(root, "demo", f"_ = open({str(module)!r}, 'a').write('# edited')")
    with pytest.raises(Failed, match="demo: source tree changed while it ran"):
        runs.perform(pages.load_page(root, "demo").run(), root, root / "runs")
    assert [p.suffix for p in (root / "runs/demo").iterdir()] == [".failed"]


SWITCHES = {
    "PYTHONWARNINGS": "error",
    "PYTHONDEVMODE": "1",
    "PYTHONOPTIMIZE": "1",
    "PYTHONPATH": "USER",
    "MATPLOTLIBRC": "USER",
    "NUMBA_DISABLE_JIT": "1",
    "OMP_NUM_THREADS": "7",
    "LC_ALL": "C",
    "IPYTHONDIR": "USER",
    "JUPYTER_CONFIG_PATH": "USER",
    "XDG_CONFIG_HOME": "USER",
    "COMPANION_CHECKPOINTS": "USER",
    "COMPANION_ANYTHING": "1",
}


def test_no_switch_of_the_users_reaches_the_kernel(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('mine')")
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\nlines.linewidth: 9")
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib/matplotlibrc").write_text("lines.linewidth: 9")
    for name, value in SWITCHES.items():
        monkeypatch.setenv(name, value.replace("USER", str(tmp_path)))
    write(
        root,
        "demo",
        "import json, os, sys\nimport matplotlib\n"
        f"seen = {{name: os.environ.get(name) for name in {list(SWITCHES)!r}}}\n"
        "print(json.dumps([seen, sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions,"
        " matplotlib.rcParams['lines.linewidth']]))",
    )
    folder, _ = runs.perform(pages.load_page(root, "demo").run(), root, root / "runs")
    [output] = read(folder / "demo.ipynb").cells[-1].outputs
    seen, optimised, developing, warned, width = json.loads(output.text)
    kept = {name for name, value in SWITCHES.items() if seen[name] == os.environ[name]}
    assert kept == set()
    assert (optimised, developing, warned, width) == (0, False, [], 1.5)


def test_python_without_assertions_is_refused(root: Path) -> None:
    for options, environment in ((["-O"], {}), ([], {"PYTHONOPTIMIZE": "1"})):
        command = [sys.executable, *options, "-m", "companion", "--root", str(root), "run", "demo"]
        source = {"PYTHONPATH": str(Path(runs.__file__).parents[2])}
        done = subprocess.run(
            command, env={**os.environ, **source, **environment}, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "drops every assertion" in done.stderr
    assert not (root / "runs").exists()


def test_the_kernel_is_this_python_and_nothing_of_the_users(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = root.parent / "home"
    startup = home / ".ipython/profile_default/startup/boom.py"
    spec = home / ".local/share/jupyter/kernels/python3/kernel.json"
    for path in (startup, spec):
        path.parent.mkdir(parents=True)
    startup.write_text("print('boom')")
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "x", "language": "python"}))
    before = sorted(home.rglob("*"))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MPLBACKEND", "agg")
    code = "import sys, os\nimport matplotlib.pyplot as plt\nplt.plot([n])\nplt.show()\n"
    write(root, "demo", code + "print(sys.executable)\nprint(os.getcwd())")
    book.execute_page(pages.load_page(root, "demo"), root)
    outputs = read(root / "notebooks/demo.ipynb").cells[-1].outputs
    assert sorted(o.output_type for o in outputs) == ["display_data", "stream"]  # no warnings
    assert f"{sys.executable}\n{root / 'notebooks'}\n" in [o.get("text") for o in outputs]
    assert sorted(home.rglob("*")) == before


# --- runs


def test_text_cannot_break_out_of_its_literal(root: Path, write: Write) -> None:
    label = """'"\\"+str(1/0)+'"""
    run = pages.load_page(root, "demo").run([("label", label)])
    write(root, "quoted", "(print(label == " + repr(label) + "))")
    quoted = pages.Run(pages.load_page(root, "quoted"), run.values)
    folder, _ = runs.perform(quoted, root, root / "runs")
    assert read(folder / "quoted.ipynb").cells[-1].outputs[0].text == "True\n"


def test_a_run_is_recorded_and_not_repeated(root: Path, write: Write) -> None:
    page, out = pages.load_page(root, "demo"), root / "runs"
    run = page.run([("n", "7")])
    folder, message = runs.perform(run, root, out)
    assert folder == out / "demo" / run.id
    assert message.startswith("done in")
    assert sorted(p.name for p in folder.iterdir()) == ["demo.ipynb", "record.json", "results"]
    assert (folder / "results/n.txt").read_text() == "7"
    nb = read(folder / "demo.ipynb")
    assert nb.cells[-1].outputs[0].text == "8 1\n"
    assert "papermill" not in (folder / "demo.ipynb").read_text()
    record = json.loads((folder / "record.json").read_text())
    assert record["parameters"] == {**page.run().values, "n": 7}
    assert record["seeds"] == {"seed": 0}
    assert record["tables"] == {"n.txt": hashlib.sha256(b"7").hexdigest()}
    assert record["kernel"] == "fresh"
    assert record["commit"] is None
    assert record["dirty"] is None
    assert record["finished"] >= record["started"]
    assert record["environment"] == provenance.environment(root)

    (folder / "results/n.txt").write_text("mark")
    assert "skipped" in runs.perform(page.run([("n", "7")]), root, out)[1]
    assert (folder / "results/n.txt").read_text() == "mark"
    runs.perform(run, root, out, force=True)
    assert (folder / "results/n.txt").read_text() == "7"
    assert [p.name for p in folder.parent.iterdir()] == [run.id]

    (root / "src/companion/a.py").write_text("f = abs\n")
    assert pages.load_page(root, "demo").run([("n", "7")]).id != run.id


def test_a_failing_run_is_kept_apart_until_one_succeeds(root: Path, write: Write) -> None:
    flag = root / "flag"
    write(root, "demo", f"print('before')\nassert __import__('os').path.exists({str(flag)!r})")
    run, out = pages.load_page(root, "demo").run(), root / "runs"
    kept = out / "demo" / f"{run.id}.failed"
    for _ in range(2):
        with pytest.raises(Failed, match=r"(?s)cell 3 of 3, line 2 .*notebook is .*failed"):
            runs.perform(run, root, out)
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]
    last = read(kept / "demo.ipynb").cells[-1]
    assert [o.output_type for o in last.outputs] == ["stream", "error"]
    assert "AssertionError" in json.loads((kept / "record.json").read_text())["error"]
    assert runs.done(kept) is None
    flag.touch()
    folder, _ = runs.perform(run, root, out)
    assert [p.name for p in kept.parent.iterdir()] == [folder.name]


def test_an_incomplete_folder_is_replaced(root: Path, write: Write) -> None:
    run, out = pages.load_page(root, "demo").run(), root / "runs"
    (out / "demo" / run.id).mkdir(parents=True)
    (out / "demo" / run.id / "junk").touch()
    folder, _ = runs.perform(run, root, out)
    assert not (folder / "junk").exists()
    assert runs.done(folder)


def test_an_output_that_cannot_be_made_is_refused_before_a_kernel_starts(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr(kernel, "execute", never)
    (root / "file").touch()
    with pytest.raises(Failed, match=r"cannot write .*file"):
        runs.perform(pages.load_page(root, "demo").run(), root, root / "file" / "runs")


def test_a_full_disk_is_reported_and_leaves_nothing(root: Path, write: Write) -> None:
    import resource

    write(root, "demo", "print('x' * 100_000)")
    limit = (50_000, 50_000)  # no file grows past this: what a full disk looks like to a writer
    process = start(
        root, "run", "demo", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    _, errors = process.communicate(timeout=60)
    print(errors)
    assert process.returncode == 1, errors
    assert "\ncompanion run: cannot write" in errors
    assert list((root / "runs/demo").iterdir()) == []


SLOW = """
import os, time
from pathlib import Path
(Path(os.environ["COMPANION_RESULTS"]) / "pid").write_text(str(os.getpid()) + ".")
time.sleep(0 if Path("{flag}").exists() else 600)
"""


SIGNALS = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_stopped_run_leaves_nothing_that_looks_complete(
    root: Path, write: Write, signum: int
) -> None:
    flag, out, killed = root / "flag", root / "runs/demo", signum == signal.SIGKILL
    write(root, "demo", SLOW.format(flag=flag))
    process = start(root, "run", "demo")
    pid = int(
        wait_for(
            lambda: [
                p.read_text()[:-1]
                for p in out.glob(".*/results/pid")
                if p.read_text().endswith(".")
            ]
        )[0]
    )
    process.send_signal(signum)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (-signum if killed else 130), errors
    assert not [p for p in out.iterdir() if not killed or not p.name.startswith(".")]
    wait_for(lambda: not alive(pid))  # the kernel goes too
    flag.touch()
    folder, message = runs.perform(pages.load_page(root, "demo").run(), root, root / "runs")
    assert message.startswith("done")
    assert runs.done(folder)
    assert [p.name for p in out.iterdir()] == [folder.name]  # what was killed is cleaned away


def test_ctrl_c_while_the_kernel_ends(root: Path, write: Write) -> None:
    """After the last cell, at moments of the kernel's end: in words, or the run is done."""
    write(root, "demo", "print(1)")
    for wait in (0.0, 0.03, 0.1, 0.2, 0.4):
        process = start(root, "run", "demo", "--no-html")
        assert process.stderr is not None
        for line in process.stderr:
            if "cell 2 of 2" in line:
                break
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        shutil.rmtree(root / "runs/demo", ignore_errors=True)
        said = "companion run: interrupted; nothing half-written is left\n"
        assert (process.returncode, errors.endswith(said)) in ((130, True), (0, False)), errors


def test_results_that_make_no_table_are_a_failure_at_once(root: Path, write: Write) -> None:
    code = (
        "import json, os\nfrom pathlib import Path\nvalues = Path(os.environ['COMPANION_RESULTS'])"
    )
    for values in ("{'spans': [1, 2]}", "[1]", "'text'"):
        write(
            root, "demo", f"{code}\n_ = (values / 'values.json').write_text(json.dumps({values}))"
        )
        with pytest.raises(Failed, match=r"demo ran, but .*values\.json: allowed: an object of"):
            runs.perform(pages.load_page(root, "demo").run(), root, root / "runs")


RESUMED = """
import os, time
from pathlib import Path
folder = Path(os.environ["COMPANION_CHECKPOINTS"])
folder.mkdir(parents=True, exist_ok=True)
print("goes on from", sorted(p.name for p in folder.iterdir()))
(folder / "half").touch()
time.sleep(0 if Path("{flag}").exists() else 600)
"""


def test_a_relative_output_folder(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)  # the kernel works in notebooks/
    folder, _ = runs.perform(pages.load_page(root, "demo").run(), root, Path("out"))
    assert (root / folder / "results/n.txt").is_file()
    assert not (root / "notebooks/out").exists()


def test_rules_are_recorded_as_they_stood_at_the_start(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, kept = root / "flag", root / "runs/.checkpoints/demo"
    write(root, "demo", RESUMED.format(flag=flag))
    run = replace(pages.load_page(root, "demo").run(), rules={"X": "first"})

    def interrupted(*args: Any, **_: Any) -> Any:
        (kept / run.id / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runs.perform(run, root, root / "runs")
    flag.touch()
    folder, _ = runs.perform(replace(run, rules={"X": "second"}), root, root / "runs")
    record = runs.done(folder) or {}
    assert (record["resumed"], record["rules"]) == (True, {"X": "first"})


def test_checkpoints_of_another_run_are_not_taken(
    root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPANION_CHECKPOINTS", str(root / "mine"))
    (root / "flag").touch()
    write(root, "demo", RESUMED.format(flag=root / "flag"))
    runs.perform(pages.load_page(root, "demo").run(), root, root / "runs")
    assert not (root / "mine").exists()


def test_an_interrupted_run_goes_on_from_its_checkpoints(root: Path, write: Write) -> None:
    flag, kept = root / "flag", root / "runs/.checkpoints/demo"
    write(root, "demo", RESUMED.format(flag=flag))
    process = start(root, "run", "demo")
    wait_for(lambda: list(kept.glob("*/half")))
    process.kill()
    process.communicate(timeout=30)
    flag.touch()
    run = pages.load_page(root, "demo").run()
    folder, _ = runs.perform(run, root, root / "runs")
    assert "goes on from ['half', 'rules.json']" in (folder / "demo.ipynb").read_text()
    assert (runs.done(folder) or {}).get("resumed") is True
    assert list(kept.iterdir()) == []
    folder, _ = runs.perform(run, root, root / "runs", force=True)
    assert "goes on from ['rules.json']" in (folder / "demo.ipynb").read_text()
    assert "resumed" not in (runs.done(folder) or {"resumed": 0})


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_two_at_once_leave_one_run(root: Path, write: Write) -> None:
    processes = [start(root, "run", "demo") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    run = pages.load_page(root, "demo").run()
    assert [p.name for p in (root / "runs/demo").iterdir()] == [run.id]
