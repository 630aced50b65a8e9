"""The same updates as one would write them with torch or JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from companion.training.engines import processors

INPUTS, OUTPUTS = 2, 2


def torch_update(model: str, n: int, T: int, batch: int, device: str = "cpu") -> Callable[[], None]:
    """Prepare one update of one student by `torch.nn`: RNN or LSTM, Adam, an SVD for a "urnn"."""
    import torch

    torch.manual_seed(0)
    kind: Any = torch.nn.LSTM if model == "lstm" else partial(torch.nn.RNN, nonlinearity="relu")
    net = kind(INPUTS, n, batch_first=True).to(device)
    readout = torch.nn.Linear(n, OUTPUTS).to(device)
    optimiser = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=1e-4)
    x = torch.randn(batch, T, INPUTS, device=device)
    y = torch.randn(batch, T, OUTPUTS, device=device)

    def update() -> None:
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(readout(net(x)[0]), y)
        torch.autograd.backward(loss)
        optimiser.step()
        if model == "urnn":
            with torch.no_grad():
                W = dict(net.named_parameters())["weight_hh_l0"]
                U, _, Vt = torch.linalg.svd(W)
                W.copy_(U @ Vt)
        if device != "cpu":
            torch.cuda.synchronize()

    return update


def torch_mnist_update(model: str, n: int, x: Any, y: Any) -> Callable[[], None]:
    """Prepare one update on permuted MNIST by `torch.nn`, on all processors."""
    import torch

    torch.manual_seed(0)
    kind: Any = torch.nn.LSTM if model == "lstm" else partial(torch.nn.RNN, nonlinearity="relu")
    net = kind(1, n, batch_first=True)
    readout = torch.nn.Linear(n, y.shape[-1])
    optimiser = torch.optim.RMSprop([*net.parameters(), *readout.parameters()], lr=1e-4, alpha=0.9)
    x_, answer = torch.from_numpy(x), torch.from_numpy(y).argmax(-1)

    def update() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(processors())
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(readout(net(x_)[0][:, -1]), answer)
        torch.autograd.backward(loss)
        optimiser.step()
        torch.set_num_threads(before)

    return update


def jax_updates(
    model: str, n: int, T: int, batch: int, students: int
) -> dict[str, Callable[[], None]]:
    """Prepare updates of all students together in JAX, in two layouts; none where JAX is missing.

    "batched": `vmap` over students makes batched products. "model last": the students are the last
    axis of every array, and products are sums along others. A "urnn" is projected by four
    Newton-Schulz steps, which cost less than the SVD.
    """
    if not find_spec("jax"):
        return {}
    import jax
    import jax.numpy as jnp

    rows = n * (4 if model == "lstm" else 1)
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return jnp.asarray(rng.standard_normal((*shape, students), dtype=np.float32) * 0.3)

    start = {
        "W": draw(rows, n) / n**0.5,
        "F": draw(rows, INPUTS),
        "b": draw(rows),
        "C": draw(OUTPUTS, n),
    }
    x, y = draw(T, batch, INPUTS), draw(T, batch, OUTPUTS)

    def loss_of(product: Any, theta: Any, x: Any, y: Any, zero: Any) -> Any:
        def step(carry: Any, now: Any) -> Any:
            (h, c), (x_t, y_t) = carry, now
            z = product(theta["W"], h) + product(theta["F"], x_t) + theta["b"]
            if model == "lstm":
                i, f, g, o = jnp.split(z, 4, axis=1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
            else:
                h = jax.nn.relu(z)
            return (h, c), jnp.square(product(theta["C"], h) - y_t).mean((0, 1))

        return jax.lax.scan(step, (zero, zero), (x, y))[1].mean(0)

    def update(gradient: Any, orthogonal: Any, state: Any, *data: Any) -> Any:
        theta, mean, square = state
        g = gradient(theta, *data)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, g)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, g)
        theta = jax.tree.map(
            lambda t, m, v: t - 1e-4 * m / (jnp.sqrt(v) + 1e-7), theta, mean, square
        )
        if model == "urnn":
            theta |= {"W": orthogonal(theta["W"])}
        return theta, mean, square

    def orthogonal(X: Any) -> Any:
        for _ in range(4):
            X = 1.5 * X - 0.5 * X @ X.T @ X
        return X

    def last(a: Any, h: Any) -> Any:  # rows × columns × students, batch × columns × students
        return (a * h[:, None]).sum(2)

    of_one = partial(loss_of, lambda a, h: h @ a.T)
    of_all = partial(loss_of, last)
    first = jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), (start, x, y))
    layouts = {
        "JAX, batched": (
            jax.vmap(jax.grad(of_one)), jax.vmap(orthogonal),
            *first, jnp.zeros((students, batch, n)),
        ),
        "JAX, model last": (
            jax.grad(lambda *a: of_all(*a).sum()),
            jax.vmap(orthogonal, in_axes=-1, out_axes=-1),
            start, x, y, jnp.zeros((batch, n, students)),
        ),
    }  # fmt: skip
    ways = {}
    for name, (gradient, projection, theta, *data) in layouts.items():
        make = jax.jit(partial(update, gradient, projection))
        moments = jax.tree.map(jnp.zeros_like, theta)
        state = (theta, moments, moments)
        ways[name] = lambda make=make, state=state, data=data: jax.block_until_ready(
            make(state, *data)
        )
    return ways
