"""Sweeps: the plan, the workers' part, and whole sweeps on a real scheduler and its workers."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from companion import cli
from companion.running import cluster, folders, grid, kernel, sweep, table
from companion.running import page as pages
from companion.running import record as provenance
from companion.running import run as runs
from companion.running.parameters import grids_from_yaml
from companion.running.record import Failed, Refused

REPOSITORY = Path(__file__).resolve().parents[2]
PARAMETERS = """
n: int = 4  # states, 1 to 64
seed: int = 0  # seed, in [0, inf)
rate: float = 0.5  # learning rate, in (0, 1]
label: str = "x"  # a label
"""
CODE = """
import json, os, time
from pathlib import Path
here, results = Path("HERE"), Path(os.environ["COMPANION_RESULTS"])
worker = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1]
(here / f"started/{seed}.{worker}.{os.getpid()}").touch()  # between them, what forks kernels
while seed >= 10 and not (here / "go").exists():  # until the test has killed what it wants
    time.sleep(0.05)
values = {"square": n * n, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
_ = (results / "values.json").write_text(json.dumps(values))
if seed == 5:
    _ = (results / "large").write_bytes(b"x" * 200_000)
assert n != 7, "seven"
"""
Make = Callable[[Path, Path], Path]


@pytest.fixture(scope="module")
def make_root(make_checkout: Callable[..., Path], write_page: Callable[..., Path]) -> Make:
    def make(root: Path, here: Path) -> Path:
        """A checkout with this package and one small notebook."""
        make_checkout(root, whole=True)
        write_page(root, "demo", PARAMETERS, CODE.replace("HERE", str(here)))
        (here / "started").mkdir(exist_ok=True)
        return root

    return make


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, make_root: Make) -> Path:
    here = tmp_path_factory.mktemp("sweep")
    return make_root(here / "checkout", here)


@pytest.fixture
def root(shared: Path) -> Iterator[Path]:
    """The shared checkout, as new."""
    yield shared
    shutil.rmtree(shared / "runs", ignore_errors=True)
    (shared.parent / "go").unlink(missing_ok=True)
    for path in (shared.parent / "started").iterdir():
        path.unlink()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def commands_of_group(group: int) -> str:
    found = ["ps", "-ww", "-o", "cmd=", "-g", str(group)]
    return subprocess.run(found, capture_output=True, text=True).stdout


def started(root: Path, count: int) -> dict[tuple[int, int], int]:
    """(seed, pid of the kernel) -> pid of the worker, once ``count`` notebooks have started."""
    folder = root.parent / "started"
    names = wait_for(lambda: len(f := list(folder.iterdir())) >= count and [p.name for p in f])
    rows = [tuple(map(int, name.split("."))) for name in names]
    return {(seed, kernel): worker for seed, worker, kernel in rows}


# --- the plan


@pytest.fixture
def page(root: Path) -> pages.Page:
    return pages.load_page(root, "demo")


def test_a_grid_has_every_combination_under_the_ids_of_single_runs(page: pages.Page) -> None:
    found = grid.expand(page, ["n=1,2", "seed=0:30", "rate=1e-3,0.5"])
    assert len(found) == len({run.id for run in found}) == 120
    assert found[1].id == page.run([("rate", "0.5"), ("n", "1")]).id
    assert [r.values["seed"] for r in grid.expand(page, ["seed=0:7:3"])] == [0, 3, 6]
    assert [r.values["label"] for r in grid.expand(page, ["label=0:3"])] == ["0:3"]
    assert [r.describe() for r in grid.expand(page, ["n=4,5"])] == ["defaults", "n=5"]
    assert grid.expand(page) == [page.run()]


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        (["n"], "--grid 'n' is malformed"),
        (["n="], "parameter n is ''"),
        (["n=1,,2"], "parameter n is ''"),
        (["n=1,65"], r"parameter n is '65'; allowed: int in \[1, 64\]"),
        (["n=1.0"], "parameter n is '1.0'"),
        (["rate=0.5,nan"], "parameter rate is 'nan'"),
        (["m=1"], "'m' is unknown to demo"),
        (["../n=1"], "malformed"),
        (["n=1", "n=2"], "given twice"),
        (["n=3,3"], "the run n=3 is given twice"),
        (["n=3,+3"], "the run n=3 is given twice"),
        (["seed=5:5"], "no values"),
        (["seed=0:30:0"], "parameter seed is '0:30:0'"),
        (["seed=0:999999999999999999"], "999999999999999999 values"),
        (["n=1:65", "seed=0:10000"], "more than 100000 runs"),
    ],
)
def test_a_bad_grid_is_refused(page: pages.Page, grids: list[str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        grid.expand(page, grids)


def test_what_is_fixed_is_not_blamed_on_the_grid(page: pages.Page) -> None:
    for fixed, message in (("n=99", "^parameter n is '99'"), ("m=1", "^parameter 'm' is unknown")):
        with pytest.raises(Refused, match=message):
            grid.expand(page, ["seed=1,2"], None, [fixed])
    with pytest.raises(Refused, match="parameter n is given twice"):
        grid.expand(page, ["n=1,2"], None, ["n=3"])


def expand(page: pages.Page, text: str, *grids: str) -> list[pages.Run]:
    path = Path(os.environ["TMPDIR"]) / "points.yaml"
    path.write_text(text)
    return grid.expand(page, grids, grids_from_yaml(path))


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_a_file_holds_a_grid_or_points(page: pages.Page) -> None:
    assert len(expand(page, "n: [1, 2]\nseed: 0:3\nlabel: 'a, b'\n")) == 6
    points = expand(page, "- {n: 1, rate: 0.25}\n- {n: 2}\n", "seed=0,1")
    assert [run.describe() for run in points] == [
        "n=1 rate=0.25",
        "n=1 seed=1 rate=0.25",
        "n=2",
        "n=2 seed=1",
    ]


BOMB = "a: &a [1, 1, 1]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {n: 1}\n- {n: 1}\n", "entry 2: the run n=1 is given twice"),
        ("- {n: 1}\n- {m: 1}\n", "entry 2: parameter 'm' is unknown"),
        ("- {n: 1}\n- {n: x}\n", "entry 2: parameter n is 'x'"),
        ("n: 1\nn: 2\n", "given twice"),
        ("n: []\n", "no values"),
        ("n: {a: 1}\n", "allowed: lines of"),
        ("n: [[1]]\n", "allowed: lines of"),
        ("n: [null]\n", "parameter n is 'null'"),
        ("? [1]\n: 1\n", "cannot be read"),
        ("n: !!python/object/apply:os.system [ls]\n", "parameter n is 'ls'"),
        ("n: [!!python/name:os.system x]\n", "parameter n is 'x'"),
        ("<<: {n: 1}\n", "allowed: lines of"),
        ("../../etc: 1\n", "unknown to demo"),
        ("", "allowed: lines of"),
        ("- 1\n", "allowed: lines of"),
        ("n: [", "cannot be read as YAML"),
        (BOMB, "allowed: lines of"),
        ("x: &x {n: [" + "1, " * 2000 + "1]}\n- *x\n", "cannot be read as YAML"),
        ("- &x {n: [" + "1, " * 2000 + "1]}\n" + "- *x\n" * 2000, "too many values"),
        ("[" * 1_000_000, "nested too deeply"),
        ("{a: " * 200_000, "nested too deeply"),
        ("#" * 4_000_001, "too large"),
    ],
)
def test_a_bad_file_is_refused(page: pages.Page, text: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        expand(page, text)


def test_ten_thousand_points_are_read_from_one_look_at_the_page(
    root: Path, page: pages.Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "read_page", None)
    text = "".join(f"- {{n: {1 + i % 64}, seed: {i}, rate: 0.25}}\n" for i in range(10_000))
    assert len(expand(page, text)) == 10_000


@pytest.mark.parametrize(
    "address",
    ["inproc://x", "tls://h", "", "localhost", "tcp://127.0.0.1:0", "tcp://127.0.0.1:70000",
     "tls://h:1/x", "ucx://127.0.0.1:1", "localhost:８７８６", "tcp://a b:1", "tcp://h:1\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Refused, match=r"--scheduler .*allowed"):
        cluster.check_address(address)


@pytest.mark.parametrize(
    ("address", "warned"),
    [("127.0.0.1:8786", False), ("tcp://localhost:1", False), ("tcp://[::1]:1", False),
     ("tls://example.org:8786", False), ("10.0.0.1:8786", True), ("tcp://example.org:1", True),
     ("tcp://localhost.evil.org:1", True), ("tcp://[::2]:1", True)],
)  # fmt: skip
def test_a_scheduler_that_others_could_reach_is_warned_of(address: str, warned: bool) -> None:
    warning = cluster.check_address(address)
    assert bool(warning) == warned
    assert warning is None or ("neither encrypted" in warning and "\n" not in warning)


def test_workers_share_out_processors_and_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for count in (1, 2, 3, len(cores)):
        places = cluster.places_here(count, 100)
        assert [gpu for _, gpu in places] == [None] * count
        assert set().union(*(own for own, _ in places)) == set(cores) or count < len(cores)
        if count <= len(cores):  # no processor is given out twice
            assert sum(len(own) for own, _ in places) == len(cores)
    assert len(cluster.places_here(None, 1)) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab")
    assert [gpu for _, gpu in cluster.places_here(None, 100)] == ["3", "GPU-ab"]
    with pytest.raises(Refused, match=r"--workers 3; allowed: 1 to 2, one a GPU"):
        cluster.places_here(3, 100)
    with pytest.raises(Refused, match="--workers 0"):
        cluster.places_here(0, 100)


def test_a_worker_refuses_what_it_would_not_run_the_same(
    root: Path, page: pages.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_root: Make
) -> None:
    here, asked = provenance.installed(root), cluster.order(root, cluster.places_here(1, 1), True)
    assert cluster.refusal(asked, page) is None
    packages = {**here, "torch": here["torch"].partition("+")[0] + "+cu130"}
    assert cluster.refusal(replace(asked, packages=packages), page) is None
    packages["numpy"] = "1.0"
    assert "has numpy 2" in str(cluster.refusal(replace(asked, packages=packages), page))
    assert "has Python 3" in str(cluster.refusal(replace(asked, python="3.10"), page))
    for name, refused in (("torch", True), ("jupyter-book", False)):  # what runs need, and not
        monkeypatch.setattr(
            provenance, "installed", lambda _, name=name: {**here, name: "not installed"}
        )
        assert (f"has no {name}" in str(cluster.refusal(asked, page))) == refused
    monkeypatch.setattr(provenance, "installed", lambda _: here)

    other = make_root(tmp_path / "other", tmp_path)
    there = replace(asked, root=str(other))
    (other / "notebooks/demo.md").unlink()  # the text travels
    assert cluster.refusal(there, page) is None
    (other / "constraints.txt").write_text("numpy==1.0\n")
    assert "pins changed" in str(cluster.refusal(there, page))
    (other / "src/companion/theory/network.py").write_text("")
    assert "source tree changed" in str(cluster.refusal(there, page))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\..\\x", "a\nb"])
def test_a_worker_cannot_name_a_file_elsewhere(tmp_path: Path, name: str) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(Failed, match="a worker sent a file named"):
        sweep._unpack({name: b""}, work)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["results", "work"]


def test_the_users_dask_settings_do_not_rule_the_workers_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import dask
    import distributed  # noqa: F401  # else its defaults come within the `set` below and go with it

    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__LIFETIME__DURATION", "4s")
    lifetime = "distributed.worker.lifetime.duration"
    with dask.config.set({lifetime: "4s", "distributed.scheduler.work-stealing": False}):
        before = dask.config.get(lifetime)
        with cluster._own_settings():
            assert dask.config.get(lifetime) is None
            assert dask.config.get("distributed.scheduler.work-stealing") is True
            assert not [name for name in os.environ if name.startswith("DASK_")]
        assert dask.config.get(lifetime) == before == "4s"
        assert os.environ["DASK_DISTRIBUTED__WORKER__LIFETIME__DURATION"] == "4s"


def test_a_checkout_that_cannot_be_written_has_its_cache_beside_the_runs(tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/.cache").touch()  # no folder can be made there
    made = folders.cache(tmp_path / "checkout", tmp_path / "out")
    assert made == tmp_path / "out/.cache"
    assert made.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(Failed, match="can be written"):
        folders.cache(tmp_path / "checkout", tmp_path / "file")


def test_leftovers_go_unless_their_owner_lives(root: Path, page: pages.Page) -> None:
    out = root / "runs"
    mine, other = page.run(), page.run([("n", "5")])
    for name in (f".{mine.id}.0badcafe", f".{other.id}.0badcafe", ".keep", "keep"):
        (out / "demo" / name).mkdir(parents=True)
    replaced = page.run([("n", "6")])  # killed between two renames
    (out / f"demo/.{replaced.id}.old.0badcafe/run").mkdir(parents=True)
    with folders.lock_of(out, "demo", other.id):
        assert folders.clean(out, "demo") == 2
    left = {p.name for p in (out / "demo").iterdir()}
    assert left == {f".{other.id}.0badcafe", ".keep", "keep", replaced.id}
    assert folders.clean(out, "demo") == 1


# --- the command line, before anything starts


def companion(root: Path, *args: str) -> int:
    return cli.main(["--root", str(root), *args])


def test_a_dry_run_prints_the_plan(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = pages.load_page(root, "demo").run([("n", "5")])
    fake(root, done, {"finished": "then"})
    assert companion(root, "sweep", "demo", "--grid", "n=4:6", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" defaults: to do")
    assert lines[1].startswith(f"{done.id} n=5: skipped: ran at then, and text, sources, pins")
    assert lines[2] == "2 runs of demo, 1 of them done; nothing was started"
    assert companion(root, "sweep", "demo", "--grid", "n=5") == 0  # needs no workers
    assert "0 done, 1 skipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["dmo"], "Did you mean demo?"),
        (["../demo"], "outside"),
        (["demo", "--grid", "n=0"], "parameter n is '0'"),
        (["demo", "--scheduler", "tcp://h:1", "--workers", "2"], "exclude each other"),
        (["demo", "-p", "n=4", "--grid", "n=5"], "n is given twice"),
        (["demo", "--scheduler", ""], "allowed: tcp://"),
        (["demo", "--workers", "0"], "--workers 0"),
        (["demo", "--workers", "0", "--dry-run"], "--workers 0"),
        (["demo", "--params", "missing.yaml"], "missing.yaml cannot be read"),
    ],
)
def test_bad_input_starts_nothing(
    root: Path,
    args: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "local", None)
    monkeypatch.setattr(cluster, "existing", None)
    assert companion(root, "sweep", *args) == 2
    assert message in capsys.readouterr().err
    assert not (root / "runs").exists()


def test_a_scheduler_that_is_not_there_ends_the_sweep(page: pages.Page, root: Path) -> None:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(Failed, match=f"no workers at {address} within 1 s"):
            sweep.sweep([page.run()], root, root / "runs", scheduler=address, seconds=1)


def test_a_peer_that_is_no_scheduler_ends_the_sweep(page: pages.Page, root: Path) -> None:
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        peer.listen()  # takes the connection, and says nothing
        address = f"tcp://127.0.0.1:{peer.getsockname()[1]}"
        before = time.monotonic()
        with pytest.raises(Failed, match=f"no workers at {address} within 2 s"):
            sweep.sweep([page.run()], root, root / "runs", scheduler=address, seconds=2)
        assert time.monotonic() - before < 20


def test_a_frozen_scheduler_ends_the_sweep(page: pages.Page, root: Path) -> None:
    dask = Cluster(root)
    try:
        scheduler = dask.scheduler()
        dask.worker()
        todo = grid.expand(page, ["seed=10"])
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(
                sweep.sweep, todo, root, root / "runs", scheduler=dask.address, seconds=10
            )
            started(root, 1)
            scheduler.send_signal(signal.SIGSTOP)
            with pytest.raises(Failed, match="is lost"):
                work.result(90)
            scheduler.send_signal(signal.SIGCONT)
    finally:
        dask.stop()


def test_a_scheduler_without_workers_ends_the_sweep(page: pages.Page, root: Path) -> None:
    dask = Cluster(root)
    try:
        dask.scheduler()
        wait_for(lambda: listens(dask.port))
        with pytest.raises(Failed, match=f"no workers at {dask.address} within 2 s"):
            sweep.sweep([page.run()], root, root / "runs", scheduler=dask.address, seconds=2)
    finally:
        dask.stop()


def test_a_scheduler_whose_workers_go_ends_the_sweep(page: pages.Page, root: Path) -> None:
    dask = Cluster(root)
    try:
        dask.scheduler()
        worker = dask.worker()
        todo = grid.expand(page, ["seed=10"])
        with ThreadPoolExecutor(1) as pool:
            swept = pool.submit(
                sweep.sweep, todo, root, root / "runs", scheduler=dask.address, seconds=8
            )
            started(root, 1)
            worker.kill()
            with pytest.raises(Failed, match=r"has had no worker for 8 s; what is done is"):
                swept.result(timeout=120)
    finally:
        dask.stop()
    assert listing(root) == ["logs"]


def tls(folder: Path) -> dict[str, str]:
    """A key of its own authority in files, and the settings of Dask that name them."""
    from distributed.security import Security

    made = Security.temporary()
    folder.mkdir()
    (folder / "ca.pem").write_text(made.tls_ca_file)
    (folder / "me.pem").write_text(made.tls_client_cert)
    (folder / "me.key").write_text(made.tls_client_key)
    names = {"cert": str(folder / "me.pem"), "key": str(folder / "me.key")}
    settings = {"ca-file": str(folder / "ca.pem"), "scheduler": names, "worker": names,
                "client": names}  # fmt: skip
    config = {"distributed": {"comm": {"require-encryption": True, "tls": settings}}}
    (folder / "distributed.yaml").write_text(yaml.safe_dump(config))
    return {"DASK_CONFIG": str(folder)}


def test_a_sweep_over_tls_and_a_stranger_is_not_let_in(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, stranger = tls(tmp_path / "mine"), tls(tmp_path / "stranger")
    dask = Cluster(root, "tls", mine)
    try:
        dask.scheduler(), dask.worker()
        args = ("--scheduler", dask.address, "--grid", "seed=1,2")
        with monkeypatch.context() as patch:
            patch.setenv("DASK_CONFIG", stranger["DASK_CONFIG"])
            wait_for(lambda: listens(dask.port))
            code, said, errors = finish(begin(root, *args))
            assert code == 1
            assert f"no workers at {dask.address}" in errors
            assert "Traceback" not in errors
            assert "done" not in said
        with monkeypatch.context() as patch:
            patch.setenv("DASK_CONFIG", mine["DASK_CONFIG"])
            code, said, errors = finish(begin(root, *args))
        assert code == 0, errors
        assert "2 done, 0 skipped" in said
        log = next((root / "runs/demo/logs").glob("*.log")).read_text()
        assert "started on tls://127.0.0.1:" in log
    finally:
        dask.stop()


def test_tls_needs_its_settings(page: pages.Page, root: Path) -> None:
    with pytest.raises(Refused, match=r"needs Dask's own settings distributed\.comm\.tls"):
        sweep.sweep([page.run()], root, root / "runs", scheduler="tls://127.0.0.1:1")


# --- results as a table


def fake(root: Path, run: pages.Run, record: dict[str, Any], values: Any = None) -> None:
    folder = root / "runs/demo" / run.id
    (folder / "results").mkdir(parents=True)
    record = {"id": run.id, "key": provenance.key(run.page.parts), "notebook": "demo"} | record
    record = {"finished": "then", "duration_s": 1, "parameters": dict(run.values)} | record
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "demo.ipynb").touch()
    if values is not None:
        (folder / "results/values.json").write_text(json.dumps(values))


def test_results_are_one_tidy_table(
    root: Path, page: pages.Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyarrow import parquet

    a, b, c, d, e = grid.expand(page, ["n=1:6"])
    fake(root, a, {"finished": "1"}, {"r2": 0.5, "ok": True})
    fake(root, b, {"finished": "2"}, [{"size": 1, "r2": 1}, {"size": 2, "r2": 0.25}])
    fake(root, c, {"finished": "3"})
    fake(root, d, {"error": "no"}, {"r2": 9.0})
    fake(root, e, {"key": "another"}, {"r2": 9.0})
    assert companion(root, "runs") == 0
    listed = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert sorted(row[1:] for row in listed[:5]) == sorted(
        [[a.id, "done"], [b.id, "done"], [c.id, "done"], [d.id, "failed"], [e.id, "older"]]
    )
    files = tmp_path / "t.csv", tmp_path / "t.parquet"
    assert companion(root, "runs", "demo", "--csv", f"{files[0]}", "--parquet", f"{files[1]}") == 0
    lines = files[0].read_text().splitlines()
    assert lines[0] == "notebook,run,key,n,seed,rate,label,r2,ok,size"
    assert lines[1] == f"demo,{a.id},{provenance.key(page.parts)},1,0,0.5,x,0.5,True,"
    assert len(lines) == 5
    rows = parquet.read_table(files[1]).to_pylist()
    assert [(row["n"], row["size"], row["r2"]) for row in rows] == [
        (1, None, 0.5),
        (2, 1, 1.0),
        (2, 2, 0.25),
        (3, None, None),
    ]
    found = table.find(root, root / "runs")
    assert sorted(found.state) == ["done", "done", "done", "failed", "older"]
    assert len(table.results(found, older=True)) == 5
    assert table.results(found).r2.mean() == pytest.approx(1.75 / 3)


@pytest.mark.parametrize(
    "record",
    [
        '{"id": 1}',
        '{"id": "ID", "notebook": "demo", "finished": 3, "parameters": {}}',
        '{"id": "ID", "notebook": "demo", "finished": "3", "parameters": []}',
        '{"id": "ffffffffffffffff", "notebook": "demo", "finished": "3", "parameters": {}}',
        "[" * 200_000,
        "",
        None,
    ],
)
def test_a_damaged_record_hides_no_other_run(
    root: Path, page: pages.Page, record: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = grid.expand(page, ["n=1,2"])
    fake(root, good, {"finished": "1"}, {"r2": 0.5})
    fake(root, bad, {})
    path = root / "runs/demo" / bad.id / "record.json"
    path.unlink()
    if record is None:
        path.mkdir()
    else:
        path.write_text(record.replace("ID", bad.id))
    assert companion(root, "runs", "demo") == 0
    said = capsys.readouterr().out
    assert f"{good.id} done" in said
    assert f"{bad.id} broken" in said
    assert companion(root, "sweep", "demo", "--grid", "n=1,2", "--dry-run") == 0
    assert "2 runs of demo, 1 of them done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "message"),
    [({"n": 1}, "both have n"), ({"x": [1]}, "allowed: an object"), (3, "allowed: an object")],
)
def test_values_that_fit_no_table_are_refused(
    root: Path, page: pages.Page, values: Any, message: str
) -> None:
    fake(root, page.run(), {}, values)
    with pytest.raises(Refused, match=message):
        table.results(table.find(root, root / "runs"))


def test_a_column_of_two_types_is_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="mixes types"):
        table.write_parquet(pd.DataFrame({"x": [1, "a"]}), tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


# --- whole sweeps


def start(root: Path, *command: str, **kwargs: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(root / "src"), "CUDA_VISIBLE_DEVICES": "0,1"}
    env |= {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
    return subprocess.Popen(
        [sys.executable, *command],
        env=env,
        cwd=root.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


class Cluster:
    """A Dask scheduler and workers as a user starts them, on loopback."""

    def __init__(
        self, root: Path, protocol: str = "tcp", env: dict[str, str] | None = None
    ) -> None:
        self.root, self.env, self.protocol = root, env or {}, protocol
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"{protocol}://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[str]] = []

    def scheduler(self) -> subprocess.Popen[str]:
        host = ("--host", f"{self.protocol}://127.0.0.1", "--port", str(self.port))
        host += ("--dashboard-address", "127.0.0.1:0", "--no-dashboard")
        return self._start(self.root, "scheduler", *host)

    def worker(self, root: Path | None = None) -> subprocess.Popen[str]:
        options = ["--nthreads=1", "--no-nanny", "--no-dashboard"]
        options += ["--local-directory", str(self.root.parent / "scratch")]
        return self._start(root or self.root, "worker", self.address, *options)

    def _start(self, root: Path, *command: str) -> subprocess.Popen[str]:
        with (self.root.parent / "cluster.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                env={**os.environ, "PYTHONPATH": str(root / "src"), **self.env},
                cwd=self.root.parent,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(shared: Path) -> Iterator[Cluster]:
    it = Cluster(shared)
    it.scheduler(), it.worker(), it.worker()
    yield it
    it.stop()


def begin(root: Path, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
    command = ("-m", "companion", "--root", str(root), "sweep", "demo", *args)
    return start(root, *command, **kwargs)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, errors = process.communicate(timeout=120)
    print(said, errors)  # shown where the test fails
    return process.returncode, said, errors


def listing(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "runs/demo").iterdir())


def test_runs_come_back_and_one_that_fails_stops_no_other(root: Path, dask: Cluster) -> None:
    args = ("--scheduler", dask.address, "--grid", "n=7,8,9")
    code, said, errors = finish(begin(root, *args))
    assert code == 1
    assert "1 of 3 runs failed:" in errors
    assert (
        'demo failed in code cell 3 of 3, line 12 (`assert n != 7, "seven"`): AssertionError: s'
        in errors
    )
    assert "Warning" not in errors
    assert "dashboard: http://127.0.0.1:" in said
    seven, eight, nine = grid.expand(pages.load_page(root, "demo"), ["n=7,8,9"])
    assert listing(root) == sorted([f"{seven.id}.failed", eight.id, nine.id, "logs"])
    record = runs.done(root / "runs/demo" / nine.id)
    assert record is not None
    assert record["parameters"] == nine.values
    log = (root / f"runs/demo/logs/{nine.id}.log").read_text()
    assert re.search(r"Z? ?started on tcp://127.0.0.1:\d+ \(pid \d+\)\n.* done in", log)
    rows = table.results(table.find(root, root / "runs"))
    assert sorted(zip(rows.n, rows.square, strict=True)) == [(8, 64), (9, 81)]
    assert runs.perform(nine, root, root / "runs")[1].startswith("skipped: ran at")


def test_a_worker_of_another_version_is_refused(
    root: Path, dask: Cluster, tmp_path: Path, make_root: Make
) -> None:
    other = make_root(tmp_path / "other", tmp_path)
    module = other / "src/companion/theory/network.py"
    module.write_text(module.read_text() + "# changed\n")
    worker = dask.worker(other)
    from distributed import Client

    with Client(dask.address, set_as_default=False) as client:
        client.wait_for_workers(3, timeout=60)
        code, said, errors = finish(begin(root, "--scheduler", dask.address))
        worker.kill()
        worker.wait()
        wait_for(lambda: len(client.nthreads()) == 2)
    assert code == 2
    assert "nothing was started; workers that are not of this version" in errors
    assert errors.count("source tree changed") == 1
    assert "done" not in said


def test_a_full_disk_is_reported_and_leaves_nothing_half_written(root: Path, dask: Cluster) -> None:
    limit = (100_000, 100_000)  # no file grows past this: what a full disk looks like to a writer
    code, _, errors = finish(
        begin(
            root, "--scheduler", dask.address, "--grid", "seed=5",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        )
    )  # fmt: skip
    assert code == 1
    assert errors.startswith("companion sweep: cannot write ")
    assert listing(root) == ["logs"]


@pytest.mark.parametrize("command", ["sweep", "run"])
@pytest.mark.parametrize(
    "out", ["constraints.txt/x", "/sys/companion"]
)  # where root may not either
def test_an_output_that_cannot_be_made_is_reported(
    root: Path,
    command: str,
    out: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "local", None)  # never reached
    monkeypatch.setattr(kernel, "execute", None)
    assert companion(root, command, "demo", "--out", str(root / out)) == 1
    assert f"companion {command}: cannot write" in capsys.readouterr().err


def test_a_killed_worker_is_retried(root: Path, dask: Cluster) -> None:
    process = begin(root, "--scheduler", dask.address, "--grid", "seed=10:13")
    (seed, kernel), worker = next(iter(started(root, 2).items()))
    os.kill(worker, signal.SIGKILL)
    (root.parent / "go").touch()
    code, said, _ = finish(process)
    assert code == 0
    assert said.count(": done in") == 3
    [victim] = grid.expand(pages.load_page(root, "demo"), [f"seed={seed}"])
    assert (root / f"runs/demo/logs/{victim.id}.log").read_text().count("started on") == 2
    assert len(listing(root)) == 4
    wait_for(lambda: not alive(kernel))
    dask.worker()


def test_a_killed_sweep_resumes_and_two_share_the_work(root: Path, dask: Cluster) -> None:
    args = ("--scheduler", dask.address, "--grid", "seed=10,11,1,2")
    process = begin(root, *args)
    started(root, 1)
    process.kill()
    finish(process)
    both = [begin(root, *args), begin(root, *args)]
    (root.parent / "go").touch()
    ends = [finish(process) for process in both]
    assert [code for code, _, _ in ends] == [0, 0]
    said = "".join(text for _, text, _ in ends)
    assert said.count(": done in") == 4  # none lost, none twice
    assert said.count(": skipped: ran at") == 4
    ids = {run.id for run in grid.expand(pages.load_page(root, "demo"), ["seed=10,11,1,2"])}
    assert set(listing(root)) == {*ids, "logs"}


def test_a_killed_scheduler_ends_the_sweep_and_the_same_command_resumes(
    root: Path, dask: Cluster
) -> None:
    args = ("--scheduler", dask.address, "--grid", "seed=1,10")
    process = begin(root, *args)
    started(root, 2)
    wait_for(lambda: len(listing(root)) >= 2)  # seed 1 is done
    dask.stop()
    code, _, errors = finish(process)
    assert code == 1
    assert f"the scheduler {dask.address} is lost" in errors
    assert "Traceback" not in errors
    dask.processes.clear()
    dask.scheduler(), dask.worker()
    (root.parent / "go").touch()
    code, said, _ = finish(begin(root, *args))
    assert code == 0
    assert "1 done, 1 skipped" in said


def test_a_failed_run_takes_no_other_its_page(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[int] = []
    monkeypatch.setattr(cli, "_html", lambda run, *_: made.append(run.values["n"]))
    assert companion(root, "sweep", "demo", "--workers", "1", "--grid", "n=6,7,8", "--html") == 1
    assert made == [6, 8]
    assert "1 of 3 runs failed" in capsys.readouterr().err


def test_workers_of_this_machine(root: Path) -> None:
    """Two workers with a GPU each; Ctrl-C, then the same command with a worker killed."""
    args = ("--workers", "2", "--grid", "seed=10,11")
    process = begin(root, *args)
    first = started(root, 2)
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process)
    assert code == 130
    assert "Traceback" not in errors
    wait_for(lambda: not any(map(alive, {*first.values(), *(kernel for _, kernel in first)})))
    assert listing(root) == ["logs"]

    process = begin(root, *args)
    now = {k: v for k, v in started(root, 4).items() if k not in first}
    os.kill(next(iter(now.values())), signal.SIGKILL)
    now |= {k: v for k, v in started(root, 5).items() if k not in first}  # a new worker took over
    (root.parent / "go").touch()
    code, said, errors = finish(process)
    assert code == 0
    assert errors.strip() == ""  # nothing of the killed worker's
    assert "2 done, 0 skipped" in said
    assert "dashboard: http://127.0.0.1:" in said
    rows = table.results(table.find(root, root / "runs"))
    assert sorted(rows.gpu) == ["0", "1"]
    wait_for(lambda: not any(map(alive, {*now.values(), *(kernel for _, kernel in now)})))


def test_ctrl_c_in_a_terminal_ends_a_sweep_in_words_at_any_moment(root: Path) -> None:
    """It reaches each process of the terminal; here while workers start, and while they work."""
    for moment in ("starting", "working"):
        before = len(list((root.parent / "started").iterdir()))  # a fast start has some already
        process = begin(root, "--workers", "2", "--grid", "seed=10,11", start_new_session=True)
        if moment == "starting":
            wait_for(lambda pid=process.pid: "spawn_main" in commands_of_group(pid))
            time.sleep(1)
        else:
            started(root, before + 2)
        os.killpg(process.pid, signal.SIGINT)
        code, _, errors = finish(process)
        # a shell says 130 of both; Python ends itself by the signal where that came in an `exec`
        assert code in (130, -signal.SIGINT)
        assert errors.strip() == "companion sweep: interrupted; nothing half-written is left"
        assert listing(root) == ["logs"]


def test_two_hundred_runs_through_kills_of_workers_and_sweep(root: Path) -> None:
    """None lost, none doubled, none half-written, whatever is killed on the way."""
    rates = ",".join(f"{k / 100}" for k in range(1, 26))
    args = ("--workers", "2", "--grid", "n=1:5", "--grid", f"rate={rates}", "-p", "label=many")
    args += ("--grid", "seed=0,1")
    folder = root / "runs/demo"

    def done() -> int:
        return len(list(folder.glob("*/record.json"))) if folder.is_dir() else 0

    said = ""
    for more, victim in ((20, "worker"), (60, "sweep"), (100, "kernel")):
        process = begin(root, *args)
        wait_for(lambda more=more: done() >= more, 200)
        if victim == "sweep":
            process.kill()
        else:
            names = [p.name.split(".") for p in (root.parent / "started").iterdir()]
            pids = [int(name[1 if victim == "worker" else 2]) for name in names]
            for pid in {pid for pid in pids if alive(pid)}:
                os.kill(pid, signal.SIGKILL)
                break
            wait_for(lambda more=more: done() >= more + 10, 200)
            process.send_signal(signal.SIGTERM)
        said += finish(process)[1]
    for _ in range(2):  # a run whose kernel was killed has failed, and is run again
        process = begin(root, *args)
        text = process.communicate(timeout=400)[0]
        said += text
        if process.returncode == 0:
            break
    assert process.returncode == 0
    ids = {run.id for run in grid.expand(pages.load_page(root, "demo"),
           ["n=1:5", f"rate={rates}", "seed=0,1"], None, ["label=many"])}  # fmt: skip
    assert set(listing(root)) == {*ids, "logs"}
    assert len(ids) == 200
    for run_id in ids:
        assert len(re.findall(rf"{run_id} .*: done in", said)) <= 1  # by one of the sweeps, once
        assert (folder / run_id / "results/values.json").is_file()
    found = table.results(table.find(root, root / "runs"))
    assert len(found) == 200
    assert (found.square == found.n**2).all()
