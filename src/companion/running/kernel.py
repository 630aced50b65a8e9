"""A notebook's cells, executed in a kernel of this interpreter and nothing of the user's.

The kernel starts in ``notebooks/``, imports the checkout's own package, uses one thread in linear
algebra, and sees the environment variables that are listed here and no other: no interpreter or
library switch, no settings of the user or of the site.
"""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from queue import Empty
from select import select
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from companion.running.page import parsed
from companion.running.record import Failed, Refused

# What a program needs to find itself, its libraries, its temporary folder and its GPUs.
_PASSED = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|TEMP|TMP|LD_LIBRARY_PATH|CUDA_(HOME|PATH|VISIBLE_DEVICES|"
    r"DEVICE_ORDER)|NVIDIA_VISIBLE_DEVICES|TRITON_(INTERPRET|LIBCUDA_PATH|PTXAS_PATH)|VIRTUAL_ENV|"
    r"CONDA_PREFIX|SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|APPDATA|LOCALAPPDATA|USERPROFILE"
)
# One thread each: sums are then added in one order, whatever the number of cores.
_ONE_THREAD = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM")
_LAUNCH = Path(__file__).with_name("launch.py")
Say = Callable[[str], None]


def quiet(_: str) -> None:
    """Say nothing."""


def variables(setting: Setting, scratch: Path, results: Path) -> dict[str, str]:
    """Return the environment of a kernel: what is passed on, and what is set."""
    cache, own = setting.cache, {"COMPANION_RESULTS": str(results)}
    if setting.checkpoints:
        own["COMPANION_CHECKPOINTS"] = str(setting.checkpoints)
    passed = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name.upper())}
    return passed | {
        **{f"{name}_NUM_THREADS": "1" for name in _ONE_THREAD},
        "PYTHONPATH": str(setting.root / "src"),  # the package that the record describes
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(cache / "matplotlib"),  # the font cache is worth keeping
        "NUMBA_CACHE_DIR": str(cache / "numba"),
        "XDG_CACHE_HOME": str(cache / "xdg"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "JUPYTER_NO_CONFIG": "1",
        "XDG_CONFIG_HOME": str(scratch / "config"),
        "COMPANION_BAR": str(scratch / "bar"),
        **own,
    }


class _Client(AsyncKernelClient):
    """A client that starts as soon as the kernel answers, not 0.2 s of silence later."""

    async def _async_wait_for_ready(self, timeout: float | None = None) -> None:
        for _ in range(100):  # of a second at most
            self.kernel_info()
            with suppress(Empty):
                await self.shell_channel.get_msg(timeout=1)
                await self.iopub_channel.get_msg(timeout=0.2)  # its own answers arrive as well
                return
            if not await self._async_is_alive():
                break
        raise RuntimeError("the kernel did not start")

    wait_for_ready = _async_wait_for_ready


class _Forked:
    """A kernel that another process forked, with the part of ``Popen`` that is asked of it."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid, self.descriptor = pid, os.pidfd_open(pid)

    def poll(self) -> int | None:  # whether it failed is told by its messages
        return 0 if select([self.descriptor], [], [], 0)[0] else None

    def wait(self) -> int:  # asked once, when it has ended
        os.close(self.descriptor)
        return 0

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, number)


class Forks:
    """A process that has imported what a page imports, from which its kernels are forked.

    It is started for the first of them, and ends with this process, however that ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Any = None
        self._modules: list[str] = []

    def fork(
        self, nb: Any, arguments: Sequence[str], environment: Mapping[str, str], folder: str
    ) -> int:
        """Start a kernel for a notebook; returns its process id."""
        request, modules = json.dumps([list(arguments), dict(environment), folder]), imports(nb)
        with self._lock:
            for _ in range(2):  # one that was killed a moment ago is made anew
                if self._process is None or self._modules != modules:
                    self.close()
                    self._modules = modules
                    self._process = subprocess.Popen(  # noqa: S603  # this interpreter, this file
                        [sys.executable, "-P", str(_LAUNCH), "--serve", *self._modules],
                        env=dict(environment), cwd=folder, text=True, start_new_session=True,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    )  # fmt: skip
                with suppress(BrokenPipeError):
                    print(request, file=self._process.stdin, flush=True)
                    if answer := self._process.stdout.readline():
                        return int(answer)
                self.close()
            raise Failed("the process that kernels are forked from ended")

    def close(self) -> None:
        """End it, and with it the kernels that still run."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass(frozen=True)
class Setting:
    """Where and how a page is executed: what each step hands to the next.

    ``root`` is the checkout whose package the kernel imports, ``cache`` keeps what libraries make
    for later, and what a page trains goes on from ``checkpoints``. With ``forks`` kernels are
    forked, not started afresh. ``say`` is told how far a page is.
    """

    root: Path
    cache: Path
    checkpoints: Path | None = None
    forks: Forks | None = None
    say: Say = quiet


def imports(nb: Any) -> list[str]:
    """List the modules that a notebook's cells import, in their order."""
    names: dict[str, None] = {}
    for cell in nb.cells:
        for node in ast.walk(parsed(cell.source)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.Import):
                names |= dict.fromkeys(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names[node.module] = None
    return list(names)


@contextmanager
def _told(bar: Path, say: Say) -> Iterator[None]:
    """Say, each second, what a bar that the kernel draws in the file ``bar`` has come to."""
    over = threading.Event()

    def watch() -> None:
        before = ""
        while not over.wait(1):
            text = bar.read_text("utf-8", "replace")[-1000:] if bar.is_file() else ""
            line = (text.replace("\r", "\n").strip().splitlines() or [""])[-1].strip()
            if line not in ("", before):
                say(before := line)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Manager(AsyncKernelManager):
    """A manager that may have kernels forked, and waits for their end in short steps."""

    forks: Forks | None = None
    nb: Any = None
    _async_finish_shutdown = partialmethod(
        AsyncKernelManager._async_finish_shutdown, pollinterval=0.01
    )

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        if self.forks is None:
            await super()._async_launch_kernel(kernel_cmd, **kw)
            return
        own: Any = self.provisioner
        own.pid = own.pgid = self.forks.fork(self.nb, kernel_cmd[3:], kw["env"], kw["cwd"])
        own.process = _Forked(own.pid)
        self._reconcile_connection_info(own.connection_info)


def _client(nb: Any, setting: Setting, scratch: Path) -> NotebookClient:
    """Make what starts a kernel and has it execute a notebook's cells."""
    manager = _Manager(
        # with no folders to look in it falls back on ipykernel's own spec: this interpreter
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        connection_file=str(scratch / "kernel.json"),
        client_factory=_Client,
    )
    manager.forks, manager.nb = setting.forks, nb
    spec: Any = manager.kernel_spec
    spec.argv = [sys.executable, "-P", str(_LAUNCH), "-f", "{connection_file}"]
    manager.provisioner = LocalProvisioner(kernel_id="kernel", kernel_spec=spec, parent=manager)
    return NotebookClient(
        nb,
        km=manager,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        # ipykernel >= 7.3 warns about its TCP ports inside the first cell's output
        extra_arguments=["--IPKernelApp.log_level=40", "--HistoryManager.hist_file=:memory:"],
        resources={"metadata": {"path": str(setting.root / "notebooks")}},
    )


def execute(
    nb: Any, label: str, setting: Setting, environment: Mapping[str, str], scratch: Path
) -> Failed | None:
    """Run a notebook's cells in place, in ``notebooks/``.

    Parameters
    ----------
    setting : its ``say`` is told "cell 7 of 31" before each cell, and the last line of a bar that
        moves within one.
    environment : from `variables`, with the same ``scratch``: a folder for what the kernel and this
        write about themselves.

    Returns
    -------
    The failure, instead of raising it: the notebook then holds the outputs up to it.
    """
    if sys.flags.optimize:
        raise Refused("python -O (PYTHONOPTIMIZE) drops every assertion; start Python without it.")
    for _ in range(3):  # a port that was free can be taken by the time that the kernel binds it
        started, failure = _execute(nb, setting, environment, scratch)
        if started:
            break
    return Failed(f"{label} failed in code cell {failure}") if failure else None


def _execute(
    nb: Any, setting: Setting, environment: Mapping[str, str], scratch: Path
) -> tuple[bool, str]:
    """Run the cells once; returns whether a kernel started, and which cell failed how, or ""."""
    client, say = _client(nb, setting, scratch), setting.say
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    number, failure = 0, ""
    try:
        with (
            _told(scratch / "bar", lambda line: say(f"cell {number} of {len(code)}: {line}")),
            (scratch / "stderr").open("wb") as errors,
            client.setup_kernel(env=dict(environment), stderr=errors, cleanup_kc=True),
        ):
            client.reset_execution_trackers()
            try:
                for index, cell in enumerate(nb.cells):
                    if cell.cell_type == "code":
                        number += 1
                        say(f"cell {number} of {len(code)}")
                    client.execute_cell(cell, index)
            except KeyboardInterrupt:
                client.shutdown_kernel = "immediate"
                raise
    except CellExecutionError as error:
        failure = _what_failed(code[number - 1].source, error)
    except DeadKernelError:
        failure = ": the kernel died (out of memory, or killed)"
    except RuntimeError as error:  # of its start
        if number:
            raise
        last = (scratch / "stderr").read_text("utf-8", "replace").strip().splitlines()[-1:]
        failure = ": ".join(["", str(error), *last])
    finally:
        say("")
        manager: Any = client.km
        if manager and manager.has_kernel:  # interrupted while it was starting, or ending
            with suppress(asyncio.InvalidStateError, concurrent.futures.InvalidStateError):
                run_sync(manager.shutdown_kernel)(now=True)  # whose end was noted already
    return not failure or number > 0, failure and f"{number} of {len(code)}{failure}"


def _what_failed(source: str, error: CellExecutionError) -> str:
    """Name the failing line of a cell, the assertion itself where it is one, and the message."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback)
    found = re.search(r"(?:Cell|File <ipython)[^\n]*\bline (\d+)", plain)
    lines, where = source.splitlines(), ""
    if found and (n := int(found[1])) <= len(lines):
        text = lines[n - 1]
        with suppress(SyntaxError):
            for node in ast.walk(parsed(source)):
                if isinstance(node, ast.Assert) and node.lineno <= n <= (node.end_lineno or n):
                    n, text = node.lineno, ast.get_source_segment(source, node) or text
        where = f", line {n} (`{' '.join(text.split())[:200]}`)"
    first = (error.evalue or "").strip().splitlines()
    return f"{where}: " + ": ".join(filter(None, (error.ename, first[0][:300] if first else "")))
