"""A Jupyter kernel, or a process that forks kernels once it has imported what a page imports.

It runs as a file, in the interpreter and the environment that the kernel is to have, and imports
nothing of the package itself: the kernel finds the package that its page is run against.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys


def isolate() -> None:
    """Keep the site's IPython settings out, and the debugger, which nobody attaches here."""
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # as Python marks what is not to load
    from IPython.core import application

    application.SYSTEM_CONFIG_DIRS.clear()
    application.ENV_CONFIG_DIRS.clear()


def kernel(arguments: list[str]) -> None:
    """Be a kernel until it is shut down."""
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=arguments)


def serve(modules: list[str]) -> None:
    """Import ``modules``, then fork a kernel for each request on standard input.

    A request is a line of JSON: the kernel's arguments, environment and folder. The answer is the
    kernel's process id. At the end of the input this process ends, and with it its kernels.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what modules print as they are imported is no answer
    for name in ("ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.zmqshell", *modules):
        with contextlib.suppress(Exception):  # the page's own import says what is wrong
            importlib.import_module(name)
    gc.freeze()  # what is shared stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # kernels that ended are reaped by the system
    for line in sys.stdin:
        arguments, environment, folder = json.loads(line)
        if (child := os.fork()) == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            if "numpy" in sys.modules:  # its global generator is seeded when it is imported
                sys.modules["numpy"].random.seed()
            sys.argv[1:] = arguments
            try:
                kernel([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
            finally:
                os._exit(1)  # a kernel that ends well has exited before
        print(child, file=answers, flush=True)


if __name__ == "__main__":
    isolate()
    if sys.argv[1] == "--serve":
        serve(sys.argv[2:])
    else:
        kernel(sys.argv[1:])
