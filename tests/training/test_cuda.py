"""The GPU kernel's arithmetic in Triton's interpreter, on the CPU: small shapes, no speed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from companion.theory.network import orthogonality_error
from companion.training import Options, Sequences, Student, fit, initial_theta
from companion.training.engines import available
from companion.training.engines.newton_schulz import NewtonSchulz
from companion.training.reference import Reference
from companion.training.students import Group, Model, State

M, P, T = 2, 2, 6

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="triton is built for Linux alone")


@pytest.fixture(scope="module")
def cuda() -> ModuleType:
    from triton.runtime.interpreter import InterpretedFunction

    from companion.training.engines import cuda as module

    assert isinstance(module.forward, InterpretedFunction)  # by tests/conftest.py
    return module


def a_group(students: list[Student], options: Options, batch: int = 20) -> tuple[Group, State]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, batch, T, M)).astype(np.float32)
    y = rng.standard_normal((2, batch, T, P)).astype(np.float32)
    group = Group(tuple(students), options, Sequences(x, y))
    return group, State.start(group.padded([initial_theta(s, M, P) for s in students]))


@pytest.mark.parametrize("batch", [3, 16, 20])
@pytest.mark.parametrize("n", [1, 4, 14, 17])
@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_gradients_agree_with_float64_autograd(
    cuda: ModuleType, model: Model, n: int, batch: int
) -> None:
    options = Options(optimiser="rmsprop", output_bias=True)  # keeps the gradient in `mean`
    group, state = a_group([Student(model, n), Student(model, n, data=1, seed=1)], options)
    state.theta[:, :, -1] += 0.1
    batches = np.arange(batch)[None]
    exact, loss = Reference(group, torch.float64).advance(state, batches)
    found, found_loss = cuda.Cuda(group, "cpu").advance(state, batches)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-5)
    for a, b in zip(found.mean, exact.mean, strict=True):
        assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b)
    error = cuda.Cuda(group, "cpu").evaluate(state.theta, group.train)
    expected = Reference(group, torch.float64).evaluate(state.theta, group.train)
    np.testing.assert_allclose(error, expected, rtol=1e-5)


SHARED = [Options(projection=p) for p in ("newton-schulz", "svd", "exponential")]
SHARED += [Options(optimiser="rmsprop", clip=0.1)]


@pytest.mark.parametrize("options", SHARED, ids=str)
def test_models_and_sizes_share_a_launch(cuda: ModuleType, options: Options) -> None:
    students = [
        Student("urnn", 4),
        Student("contractive", 2, seed=1),
        Student("rnn", 3, data=1, seed=2),
        Student("urnn", 2, seed=3, initialisation="glorot"),
    ]
    group, state = a_group(students, options)
    batches = np.random.default_rng(1).permuted(np.tile(np.arange(20), (3, 1)), axis=1)[:, :4]
    found, _ = cuda.Cuda(group, "cpu").advance(state, batches)
    for i, (s, inside) in enumerate(zip(students, group.places, strict=True)):
        alone = replace(group, students=(s,))
        theta = state.theta[i][inside][None]
        start = State.start(theta)
        expected, _ = Reference(alone, torch.float32).advance(start, batches)
        np.testing.assert_allclose(found.theta[i][inside], expected.theta[0], rtol=0, atol=2e-5)
        outside = found.theta[i].copy()
        outside[inside] = 0
        assert not outside.any()
        W = found.theta[i][: s.hidden_units, : s.hidden_units]
        if s.model == "urnn":
            assert orthogonality_error(W) <= 10 * s.hidden_units * np.finfo(np.float32).eps


def a_gpu(monkeypatch: pytest.MonkeyPatch, kilobytes: int) -> None:
    held = SimpleNamespace(shared_memory_per_multiprocessor=1024 * kilobytes)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: held)


@pytest.mark.parametrize(
    ("kilobytes", "relu", "lstm"), [(228, 128, 64), (164, 128, 32), (100, 64, 32), (64, 64, 32)]
)
def test_a_student_too_large_for_a_gpu_is_left_to_the_reference(
    cuda: ModuleType, monkeypatch: pytest.MonkeyPatch, kilobytes: int, relu: int, lstm: int
) -> None:
    """An H100, an A100, a GPU of a desktop and an old one; what each needs is what Triton asks."""
    a_gpu(monkeypatch, kilobytes)
    assert [max(n for n in range(1, 300) if cuda.fits(gates, n)) for gates in (1, 4)] == [
        relu,
        lstm,
    ]


def test_fit_takes_it(cuda: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_device = NewtonSchulz.__init__
    monkeypatch.setattr(NewtonSchulz, "__init__", lambda self, group, _: on_a_device(self, group))
    a_gpu(monkeypatch, 228)
    group, _ = a_group([Student("rnn", 2)], Options())
    students = [Student("urnn", 3), Student("lstm", 2), Student("rnn", 2), Student("lstm", 3)]
    arguments: dict[str, Any] = {"updates": 4, "batch": 5, "held_out": {"test": group.train}}
    found = fit(students, group.train, **arguments, backend="cuda")
    expected = fit(students, group.train, **arguments, backend="reference")
    np.testing.assert_allclose(found.r2["test"], expected.r2["test"], rtol=0, atol=1e-4)
    for a, b in zip(found.theta, expected.theta, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from companion.training.engines import kernels

data = {n: "*fp32" for n in ("theta", "x", "y")} | {n: "*i64" for n in ("realisation", "index")}
sizes = {n: "i32" for n in ("apart", "S", "B", "T", "n", "m", "p", "w", "rows")} | {"scale": "fp32"}
outs = {kernels.forward: ("kept", "score"), kernels.backward: ("kept", "loss", "gradient")}
outs[kernels.gathered] = ("kept", "gradient")
for NP, lstm in ((16, False), (16, True), (32, False), (64, True), (128, False)):
    for kernel, out in outs.items():
        constants = {"LSTM": lstm, "LAST": NP > 16, "BP": 16, "NP": NP, "MP": 16, "PP": 16}
        constants |= {"KEEP": True, "PIECES": 4, "STEPS": 2, "RP": min(NP, 32)}
        constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
        types = data | {n: "*fp32" for n in out} | sizes | {n: "constexpr" for n in constants}
        types = {name: types[name] for name in kernel.arg_names}
        source = ASTSource(kernel, types, constants)
        warps = NP // 16
        options = {"num_warps": min(4, warps) if kernel is kernels.gathered else warps}
        built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert built.asm["cubin"]
        assert NP > 32 or ".local" not in built.asm["ptx"]  # nothing outside registers
        gates = 4 if lstm else 1  # and as `fits` says:
        assert NP < 64 or built.metadata.shared <= (10 + gates / 8) * gates * NP**2
"""


def test_the_kernel_compiles_for_a_gpu_without_one(tmp_path: Path) -> None:
    """Triton's own assembler for compute capability 9.0; what runs above is interpreted."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=environment)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_is_held_to_float64(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    program = Path(__file__).with_name("on_gpu.py")
    subprocess.run([sys.executable, str(program)], check=True, env=environment)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert available("auto") == name
