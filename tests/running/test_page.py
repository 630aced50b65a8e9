from __future__ import annotations

import json
import os
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

from companion.running import page as runs
from companion.running import record as provenance
from companion.running.record import Refused

PARAMETERS = """
n: int = 4  # number of states, 1 to 64
norm: float = 0.5  # spectral norm, in (0, 1]
seed: int = 0  # seed of every draw, in [0, inf)
dtype: str = "a"  # arithmetic, one of: a, b
label: str = "x y"  # a label
plot: bool = True  # whether to draw
"""
PAGE = """---
jupytext:
  formats: ipynb,md:myst
kernelspec:
  display_name: Python 3 (ipykernel)
  language: python
  name: python3
---

# Demo

```{code-cell} ipython3
:tags: [parameters]
%s
```

```{code-cell} ipython3
%s
```
"""
CODE = """
import os
from pathlib import Path
from companion import f
results = Path(os.environ["COMPANION_RESULTS"])
print(f(n), os.environ["OMP_NUM_THREADS"])
_ = (results / "n.txt").write_text(str(n))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "notebooks").mkdir(parents=True)
    package = root / "src/companion"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from companion.a import f\n")
    (package / "a.py").write_text("def f(n):\n    return n + 1\n")
    (package / "unrelated.py").write_text("")
    (root / "constraints.txt").write_text("numpy==1\n")
    write(root, "demo", CODE)
    return root


def write(root: Path, name: str, code: str, parameters: str = PARAMETERS) -> None:
    (root / f"notebooks/{name}.md").write_text(PAGE % (parameters.strip(), code.strip()))


def read(path: Path) -> Any:
    return nbformat.reads(path.read_text(), as_version=4)


def start(root: Path, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "companion.cli", "--root", str(root), *args)
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
def test_notebooks_elsewhere_are_refused(root: Path, name: str) -> None:
    (root.parent / "demo.md").write_text("secret")
    (root / "notebooks/link.md").symlink_to(root.parent / "demo.md")
    with pytest.raises(Refused, match=r"outside|no notebook"):
        runs.load_page(root, name)


def test_a_missing_notebook_names_what_there_is(root: Path) -> None:
    with pytest.raises(Refused, match=r"no notebook 'dmo'; Did you mean demo\? there are: demo"):
        runs.load_page(root, "dmo")


def test_names_and_paths_mean_the_same_page(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = runs.load_page(root, "demo")
    path = str(root / "notebooks/demo.ipynb")
    assert runs.load_page(root, path) == runs.load_page(root, "notebooks/demo.md") == page
    monkeypatch.chdir(root / "notebooks")
    assert runs.load_page(root, "demo.md") == runs.load_page(root, "./demo.md") == page


@pytest.mark.parametrize(
    ("header", "code", "message"),
    [
        ("", "x = (", "demo.md: .*never closed .code cell 2, line 1"),
        ("companion: {data: [../secret]}", "", "no such file"),
        ("companion: {data: [missing.json]}", "", "no such file"),
        ("", "```\n\n```{code-cell}\n:tags: [parameters]\n1", "more than one cell"),
        ("", "```\n\n```{code-cell}\n:tags: [x\n1", "demo.md: "),
        ("title: [", "", "demo.md: "),
        ("companion: [1]", "", "demo.md: "),
    ],
)
def test_malformed_pages_are_refused(root: Path, header: str, code: str, message: str) -> None:
    (root.parent / "secret").touch()
    write(root, "demo", code)
    path = root / "notebooks/demo.md"
    path.write_text(path.read_text().replace("kernelspec:", f"{header}\nkernelspec:"))
    with pytest.raises(Refused, match=message):
        runs.load_page(root, "demo")


def test_a_page_is_executed_once_and_again_when_it_is_stale(root: Path) -> None:
    page = runs.load_page(root, "demo")
    path = root / "notebooks/demo.ipynb"
    assert runs.stale(page, root) == ["never executed"]
    runs.execute_page(page, root)
    first = path.read_text()
    nb = read(path)
    assert runs.stale(page, root) == []
    assert [cell.get("execution_count") for cell in nb.cells] == [None, 1, 2]
    assert nb.cells[-1].outputs == [{"output_type": "stream", "name": "stdout", "text": "5 1\n"}]
    assert set(nb.metadata) == {"companion", "jupytext", "kernelspec", "language_info"}
    assert nb.metadata.companion.key == provenance.key(page.parts)
    assert nb.metadata.jupytext == {"formats": "ipynb,md:myst"}
    assert not list((root / ".cache").glob("page.*"))

    # the same again, but for the time it took
    runs.execute_page(page, root)
    again = read(path)
    for name in ("started", "finished", "duration_s"):
        again.metadata.companion[name] = nb.metadata.companion[name]
    assert again == nb

    def why() -> list[str]:
        return runs.stale(runs.load_page(root, "demo"), root)

    (root / "src/companion/unrelated.py").write_text("x = 1\n")
    assert why() == []
    (root / "constraints.txt").write_text("numpy==2\n")
    (root / "src/companion/a.py").write_text("def f(n):\n    return n + 2\n")
    write(root, "demo", CODE + "\nprint('more')")
    assert why() == ["module companion.a changed", "pins changed", "text changed"]
    path.write_text(first.replace('"parts"', '"other"'))
    assert why() == ["it carries no key"]
    path.write_text("{")
    assert why()[0].startswith("not a notebook")


def test_an_edited_notebook_is_out_of_step(root: Path) -> None:
    runs.execute_page(runs.load_page(root, "demo"), root)
    path, page = root / "notebooks/demo.ipynb", runs.load_page(root, "demo")
    text = path.read_text()
    path.write_text(text.replace("# Demo", "# Demo, edited"))
    assert runs.stale(page, root) == ["cell 1 differs from the text"]
    path.write_text(text.replace('"parameters"\n', '"other"\n'))
    assert runs.stale(page, root) == ["cell 2 differs from the text"]
    nb = json.loads(text)
    del nb["cells"][0]
    path.write_text(json.dumps(nb))
    assert runs.stale(page, root) == ["it has 2 cells, the text 3"]


def test_a_failing_page_leaves_the_committed_notebook(root: Path) -> None:
    path = root / "notebooks/demo.ipynb"
    path.write_text("as it was")
    write(root, "demo", "\n\nassert n == 5, 'no'")
    message = r"demo failed in code cell 2 of 2 \(`assert n == 5, 'no'`\): AssertionError: no"
    with pytest.raises(runs.Failed, match=message):
        runs.execute_page(runs.load_page(root, "demo"), root)
    assert path.read_text() == "as it was"
    assert sorted(p.name for p in path.parent.iterdir()) == ["demo.ipynb", "demo.md"]


def test_a_kernel_that_dies_is_a_failure(root: Path) -> None:
    write(root, "demo", "import os\nos._exit(1)")
    with pytest.raises(runs.Failed, match=r"code cell 2 of 2 \(`import os`\): the kernel died"):
        runs.execute_page(runs.load_page(root, "demo"), root)


def test_the_kernel_is_this_python_and_nothing_of_the_users(
    root: Path, monkeypatch: pytest.MonkeyPatch
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
    runs.execute_page(runs.load_page(root, "demo"), root)
    outputs = read(root / "notebooks/demo.ipynb").cells[-1].outputs
    assert sorted(o.output_type for o in outputs) == ["display_data", "stream"]  # no warnings
    assert f"{sys.executable}\n{root / 'notebooks'}\n" in [o.get("text") for o in outputs]
    assert sorted(home.rglob("*")) == before


# --- runs


def test_text_cannot_break_out_of_its_literal(root: Path) -> None:
    label = """'"\\"+str(1/0)+'"""
    run = runs.load_page(root, "demo").run([("label", label)])
    write(root, "quoted", "(print(label == " + repr(label) + "))")
    quoted = runs.Run(runs.load_page(root, "quoted"), run.parameters)
    folder, _ = runs.perform(quoted, root, root / "runs")
    assert read(folder / "quoted.ipynb").cells[-1].outputs[0].text == "True\n"


def test_a_run_is_recorded_and_not_repeated(root: Path) -> None:
    page, out = runs.load_page(root, "demo"), root / "runs"
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
    assert record["parameters"] == {**page.run().parameters, "n": 7}
    assert record["seeds"] == {"seed": 0}
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
    assert runs.load_page(root, "demo").run([("n", "7")]).id != run.id


def test_a_failing_run_is_kept_apart_until_one_succeeds(root: Path) -> None:
    flag = root / "flag"
    write(root, "demo", f"print('before')\nassert __import__('os').path.exists({str(flag)!r})")
    run, out = runs.load_page(root, "demo").run(), root / "runs"
    kept = out / "demo" / f"{run.id}.failed"
    for _ in range(2):
        with pytest.raises(
            runs.Failed, match=r"(?s)code cell 3 of 3.*partial notebook is .*failed"
        ):
            runs.perform(run, root, out)
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]
    last = read(kept / "demo.ipynb").cells[-1]
    assert [o.output_type for o in last.outputs] == ["stream", "error"]
    assert "AssertionError" in json.loads((kept / "record.json").read_text())["error"]
    assert runs.done(kept) is None
    flag.touch()
    folder, _ = runs.perform(run, root, out)
    assert [p.name for p in kept.parent.iterdir()] == [folder.name]


def test_an_incomplete_folder_is_replaced(root: Path) -> None:
    run, out = runs.load_page(root, "demo").run(), root / "runs"
    (out / "demo" / run.id).mkdir(parents=True)
    (out / "demo" / run.id / "junk").touch()
    folder, _ = runs.perform(run, root, out)
    assert not (folder / "junk").exists()
    assert runs.done(folder)


def test_an_output_that_cannot_be_made_is_refused_before_a_kernel_starts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr(runs, "_execute", never)
    (root / "file").touch()
    with pytest.raises(runs.Failed, match=r"cannot write .*file"):
        runs.perform(runs.load_page(root, "demo").run(), root, root / "file" / "runs")


def test_a_full_disk_is_reported_and_leaves_nothing(root: Path) -> None:
    import resource

    write(root, "demo", "print('x' * 100_000)")
    limit = (50_000, 50_000)  # no file grows past this: what a full disk looks like to a writer
    process = start(
        root, "run", "demo", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    _, errors = process.communicate(timeout=60)
    print(errors)
    assert process.returncode == 1, errors
    assert errors.startswith("companion run: cannot write")
    assert list((root / "runs/demo").iterdir()) == []


SLOW = """
import os, time
from pathlib import Path
(Path(os.environ["COMPANION_RESULTS"]) / "pid").write_text(str(os.getpid()) + ".")
time.sleep(0 if Path("{flag}").exists() else 600)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_nothing_that_looks_complete(root: Path, signum: int) -> None:
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
    folder, message = runs.perform(runs.load_page(root, "demo").run(), root, root / "runs")
    assert message.startswith("done")
    assert runs.done(folder)


RESUMED = """
import os, time
from pathlib import Path
folder = Path(os.environ["COMPANION_CHECKPOINTS"])
folder.mkdir(parents=True, exist_ok=True)
print("goes on from", sorted(p.name for p in folder.iterdir()))
(folder / "half").touch()
time.sleep(0 if Path("{flag}").exists() else 600)
"""


def test_a_relative_output_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)  # the kernel works in notebooks/
    folder, _ = runs.perform(runs.load_page(root, "demo").run(), root, Path("out"))
    assert (root / folder / "results/n.txt").is_file()
    assert not (root / "notebooks/out").exists()


def test_rules_are_recorded_as_they_stood_at_the_start(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, kept = root / "flag", root / "runs/.checkpoints/demo"
    write(root, "demo", RESUMED.format(flag=flag))
    run = replace(runs.load_page(root, "demo").run(), rules={"X": "first"})

    def interrupted(*args: Any) -> Any:
        (kept / run.id / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_execute_recorded", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runs.perform(run, root, root / "runs")
    flag.touch()
    folder, _ = runs.perform(replace(run, rules={"X": "second"}), root, root / "runs")
    record = runs.done(folder) or {}
    assert (record["resumed"], record["rules"]) == (True, {"X": "first"})


def test_checkpoints_of_another_run_are_not_taken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPANION_CHECKPOINTS", str(root / "mine"))
    (root / "flag").touch()
    write(root, "demo", RESUMED.format(flag=root / "flag"))
    runs.perform(runs.load_page(root, "demo").run(), root, root / "runs")
    assert not (root / "mine").exists()


def test_an_interrupted_run_goes_on_from_its_checkpoints(root: Path) -> None:
    flag, kept = root / "flag", root / "runs/.checkpoints/demo"
    write(root, "demo", RESUMED.format(flag=flag))
    process = start(root, "run", "demo")
    wait_for(lambda: list(kept.glob("*/half")))
    process.kill()
    process.communicate(timeout=30)
    flag.touch()
    run = runs.load_page(root, "demo").run()
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


def test_two_at_once_leave_one_run(root: Path) -> None:
    processes = [start(root, "run", "demo") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    run = runs.load_page(root, "demo").run()
    assert [p.name for p in (root / "runs/demo").iterdir()] == [run.id]
