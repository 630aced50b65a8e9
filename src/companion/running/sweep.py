"""Many runs of one notebook on Dask workers: on this machine, or at a scheduler that exists.

Only this process writes into the output folder, each run whole or not at all, and holds the lock of
each run that it has under way. So whatever is killed, the same command goes on from there, and two
sweeps into one folder share the work.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from companion.running import cluster, limits
from companion.running import record as provenance
from companion.running import run as runs
from companion.running.folders import cache, claim, clean, unwritable
from companion.running.page import Run
from companion.running.record import Failed, Refused


def _claimed(out: Path, run: Run) -> FileLock | None:
    """Take the lock of a run; None where another process holds it."""
    lock = claim(out, run.page.name, run.id)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(error, path) from error


def _unpack(files: Mapping[str, bytes], work: Path) -> None:
    (work / "results").mkdir()
    for name, data in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
            raise Failed(f"a worker sent a file named {name[:80]!r}")
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(data)


def check(todo: Sequence[Run], scheduler: str | None, workers: int | None) -> str | None:
    """Check where the runs are to be made, before anything starts; returns a warning, or None.

    Raises
    ------
    Refused : no address, no number of workers, or a file that other machines do not have.
    """
    if scheduler is None:
        cluster.places_here(workers, len(todo))
        return None
    if workers is not None:
        raise Refused("--workers and --scheduler exclude each other.")
    if named := [name for run in todo for name in run.files]:
        raise Refused(
            f"parameter {named[0]} names a file of this machine; allowed with --scheduler: "
            "parameters that are values."
        )
    return cluster.check_address(scheduler)


def plan(todo: Sequence[Run], out: Path, say: Callable[[str], None]) -> None:
    """Say what a sweep would run; nothing is started."""
    done = 0
    for run in todo:
        why = runs.skipped(out / run.page.name / run.id)
        done += bool(why)
        say(f"{run.id} {run.describe()}: {why or 'to do'}")
    say(f"{len(todo)} runs of {todo[0].page.name}, {done} of them done; nothing was started")


def sweep(
    todo: Sequence[Run],
    root: Path,
    out: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    seconds: float = 60,
    fork: bool = True,
    say: Callable[[str], None] = print,
) -> Counter[str]:
    """Run every run that is not done into ``out``; one that fails does not stop the others.

    Parameters
    ----------
    todo : from `grid.expand`: runs of one page.
    scheduler : address of one that exists; without it ``workers`` processes of this machine do it,
        by default as many as it has processors or visible GPUs.
    seconds : how long to wait for a scheduler and a worker.
    fork : fork kernels from a process that has imported what the page imports (on Linux).
    say : told one line a run.

    Returns
    -------
    How many runs were ``done`` and ``skipped``.

    Raises
    ------
    Refused : a worker has another version, and nothing was started.
    Failed : runs failed (it lists them), the scheduler was lost, or ``out`` cannot be written.
    """
    page, out = todo[0].page, out.absolute()
    folder = out / page.name
    if warning := check(todo, scheduler, workers):
        say(warning)
    places = () if scheduler else cluster.places_here(workers, len(todo))
    ends: dict[str, list[str]] = {"done": [], "skipped": [], "failed": []}

    def settle(run: Run, kind: str, what: str) -> None:
        ends[kind].append(f"{run.id} {run.describe()}: {what}")
        say(ends[kind][-1])

    left: deque[Run] = deque()
    for run in todo:
        why = runs.skipped(folder / run.id)
        settle(run, "skipped", why) if why else left.append(run)
    if not left:
        return Counter(skipped=len(todo))
    own, order = _ready(root, out, page.name, say), _order(todo[0], root, fork, places)
    with _writing(folder):
        limits.check(own, len(places))
        limits.check(out)
    there = cluster.existing(scheduler, seconds) if scheduler else cluster.local(own, len(places))
    with there as client:
        cluster.ask_all(client, order, max(seconds, 30))
        say(f"dashboard: {client.dashboard_link}")
        with tqdm(total=len(left), unit="run", file=sys.stderr, disable=None) as bar:
            for run, kind, what in _results(client, order, left, out, seconds):
                settle(run, kind, what)
                bar.update()
    if failed := ends["failed"]:
        raise Failed(f"{len(failed)} of {len(todo)} runs failed:\n" + "\n".join(failed))
    return Counter({kind: len(lines) for kind, lines in ends.items()})


def _ready(root: Path, out: Path, name: str, say: Callable[[str], None]) -> Path:
    """Make the folder of runs ready; returns one for what workers keep for a while."""
    with _writing(out / name):
        (out / name / "logs").mkdir(parents=True, exist_ok=True)
        if removed := clean(out, name):
            say(f"removed {removed} unfinished folders of killed runs")
        return cache(root, out)


def _order(run: Run, root: Path, fork: bool, places: tuple[cluster.Place, ...]) -> cluster.Order:
    """Write down what the runs of a sweep have in common, for the workers."""
    page = run.page
    return cluster.Order(
        topic=f"companion-{secrets.token_hex(8)}",
        page=page.name,
        text=page.text,
        parts=dict(page.parts),
        packages=provenance.installed(root),
        python=cluster.python_version(),
        rules=dict(run.rules),
        root=str(root) if places else None,
        fork=fork,
        places=places,
    )


def _results(
    client: Any, order: cluster.Order, left: deque[Run], out: Path, seconds: float
) -> Iterator[tuple[Run, str, str]]:
    """Hand the runs to the workers; yields each with what became of it, when its files lie here.

    Only a few runs a worker are under way at a time, so that results do not pile up, and a second
    sweep into the same folder finds runs to do.
    """
    from distributed import as_completed
    from distributed.client import CancelledError
    from distributed.comm import CommClosedError

    logs = out / left[0].page.name / "logs"

    def log(run_id: str, what: str) -> None:
        with (logs / f"{run_id}.log").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {what}\n")

    client.subscribe_topic(order.topic, lambda event: log(event[1]["run"], event[1]["what"]))
    flight: dict[Any, tuple[Run, FileLock]] = {}
    queue = as_completed(loop=client.loop)
    try:
        while left or flight:
            room = 2 * max(1, sum(cluster.bounded(seconds, client.nthreads).values())) - len(flight)
            for run in tuple(left):
                if room <= 0:
                    break
                left.popleft()
                with _writing(logs):
                    lock = _claimed(out, run)
                if lock is None:  # another sweep has it
                    left.append(run)
                elif why := runs.skipped(out / run.page.name / run.id):
                    lock.release()
                    yield run, "skipped", why
                else:
                    future = _submit(client, order, run)
                    flight[future] = run, lock
                    queue.add(future)
                    room -= 1
            if client.status != "running":  # what was just submitted would wait for ever
                raise CommClosedError("connection lost")
            if not flight:  # another sweep has the rest under way
                time.sleep(0.5)
                continue
            _wait(client, queue, seconds)
            future = next(queue)
            run, lock = flight[future]
            kind, what = _settled(future, run, out)
            with _writing(logs):
                log(run.id, what)
            del flight[future]
            lock.release()
            yield run, kind, what
    except (CancelledError, OSError) as error:  # of Dask's; our own writing fails as `Failed`
        lost = f"the scheduler {client.scheduler.address} is lost; what is done is in {logs.parent}"
        raise Failed(f"{lost}, and the same command goes on from there") from error
    finally:
        for _, lock in flight.values():
            lock.release()


def _submit(client: Any, order: cluster.Order, run: Run) -> Any:
    """Hand a run to the workers; returns its future."""
    key = f"{run.page.name}-{run.id}-{secrets.token_hex(4)}"
    given = order, dict(run.parameters), dict(run.files)
    return client.submit(cluster.execute, *given, key=key, pure=False)


def _wait(client: Any, queue: Any, seconds: float) -> None:
    """Wait until a run has ended or the scheduler is lost, but not for workers that never come."""
    seen = asked = time.monotonic()
    while not queue.has_ready() and client.status == "running":
        time.sleep(0.05)
        if (now := time.monotonic()) - asked < 1:
            continue
        asked = now
        if cluster.bounded(seconds, client.nthreads):
            seen = now
        elif now - seen > seconds:
            raise Failed(
                f"{client.scheduler.address} has had no worker for {seconds:.0f} s; what is done "
                "is kept, and the same command goes on from there"
            )


def _settled(future: Any, run: Run, out: Path) -> tuple[str, str]:
    """What became of a run: its files are written here, whole or not at all."""
    if future.status == "error":
        error = future.exception()
        if isinstance(error, Refused):
            raise Failed(f"{error}; the sweep stops here") from error
        return "failed", f"{type(error).__name__} on a worker: {error}"
    result: tuple[dict[str, bytes], str | None] = future.result()
    files, failure = result

    def fill(work: Path) -> str | None:
        _unpack(files, work)
        return failure

    with _writing(out / run.page.name / run.id):
        try:
            return "done", runs.publish(run, out, fill)[1]
        except Failed as error:
            return "failed", str(error)
