"""Many runs of a small page, with a worker, the sweep and the scheduler killed on the way.

    .venv/bin/python tests/faults/many.py --runs 10000 --json book/results/many-runs.json

None may be lost, doubled or half-written. Scheduler and workers are Dask's own, on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from conftest import write_page  # noqa: E402  # of the tests

from companion.running import record, table  # noqa: E402

CODE = """
import json, os
from pathlib import Path
import numpy as np
from companion import orthogonal_dilation, orthogonality_error
W = np.random.default_rng(seed).standard_normal((n, n))
U = orthogonal_dilation(W / (2 * np.linalg.norm(W, 2)))
values = {"states": len(U), "error": float(orthogonality_error(U))}
assert values["error"] < 1e-13 * n
_ = (Path(os.environ["COMPANION_RESULTS"]) / "values.json").write_text(json.dumps(values))
"""
PARAMETERS = "n: int = 4  # states, 1 to 64\nseed: int = 0  # seed, in [0, inf)"


class Machines:
    """A scheduler and workers, started and killed."""

    def __init__(self, root: Path, workers: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.root, self.count = root, workers
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.env = {**os.environ, "PYTHONPATH": str(root / "src")}
        self.env["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "false"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.root / "dask.log").open("ab") as log:
            command = [sys.executable, "-m", "dask", *words]
            return subprocess.Popen(command, env=self.env, cwd=self.root, stdout=log, stderr=log)

    def up(self) -> None:
        """Start what does not run."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            where = ("--host", "tcp://127.0.0.1", "--port", str(self.port), "--no-dashboard")
            self.scheduler = self._start("scheduler", *where)
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < self.count:
            options = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
            own = ("--local-directory", str(self.root / "scratch"))
            self.workers.append(self._start("worker", self.address, *options, *own))

    def down(self) -> None:
        """Kill all."""
        for process in [*self.workers, *filter(None, [self.scheduler])]:
            process.kill()
            process.wait()


def sweep(root: Path, runs: int, machines: Machines) -> subprocess.Popen[bytes]:
    """Start the command that is to do it all, or goes on with it."""
    words = ("--root", str(root), "sweep", "demo", "--grid", f"seed=0:{runs}")
    with (root / "sweep.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "companion", *words, "--scheduler", machines.address],
            env=machines.env, cwd=root, stdout=log, stderr=log,
        )  # fmt: skip


def done(root: Path) -> int:
    """Count the runs whose folders are there."""
    folder = root / "runs" / "demo"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sum(bool(re.fullmatch("[0-9a-f]{16}", name)) for name in names)


def main() -> int:
    """Do it, check it, write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=9, help="worker, sweep, scheduler in turn")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    events: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="companion-many-") as folder:
        root = Path(folder) / "checkout"
        (root / "notebooks").mkdir(parents=True)
        shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for pins in ROOT.glob("constraints*.txt"):
            shutil.copy(pins, root)
        write_page(root, "demo", PARAMETERS, CODE)
        machines = Machines(root, given.workers)
        rng, start = random.Random(1), time.monotonic()  # noqa: S311  # what is killed when
        at = sorted(
            rng.randrange(given.runs // 20, given.runs * 19 // 20) for _ in range(given.kills)
        )
        machines.up()
        process = sweep(root, given.runs, machines)
        try:
            while process.poll() is None or done(root) < given.runs:
                time.sleep(1)
                if at and done(root) >= at[0]:
                    at.pop(0)
                    what = ("a worker", "the sweep", "the scheduler")[len(events) % 3]
                    victim = {"a worker": machines.workers[0], "the sweep": process,
                              "the scheduler": machines.scheduler}[what]  # fmt: skip
                    assert victim is not None
                    victim.send_signal(signal.SIGKILL)
                    victim.wait()
                    after = round(time.monotonic() - start)
                    events.append({"killed": what, "after_s": after, "runs_done": done(root)})
                    print(events[-1], flush=True)
                machines.up()
                if process.poll() is not None and done(root) < given.runs:
                    process = sweep(root, given.runs, machines)
            process.wait()
        finally:
            machines.down()
        seconds = time.monotonic() - start
        found = table.find(root, root / "runs")
        results = table.results(found)
        lines = [p.read_text().count(": done in") + p.read_text().count(" done in ")
                 for p in (root / "runs/demo/logs").glob("*.log")]  # fmt: skip
        outcome = {
            "runs": given.runs,
            "done": int((found.state == "done").sum()),
            "lost": given.runs - len(set(results.seed)),
            "doubled": len(results) - len(set(results.seed)) + sum(n > 1 for n in lines),
            "half_written": sum(
                path.name.startswith(".") for path in (root / "runs/demo").iterdir()
            ),
            "failed": int((found.state == "failed").sum()),
            "seconds": round(seconds),
            "runs_a_minute": round(60 * given.runs / seconds, 1),
            "workers": given.workers,
            "kernels": dict(Counter(r["kernel"] for r in found.record)),
            "largest_error": float(results.error.max()),
            "kills": events,
            **record.git_state(ROOT),
            "environment": record.environment(ROOT),
        }
    print({k: v for k, v in outcome.items() if k != "environment"}, flush=True)
    if given.json:
        given.json.write_text(json.dumps(outcome, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return int(any(outcome[k] for k in ("lost", "doubled", "half_written", "failed")))


if __name__ == "__main__":
    sys.exit(main())
