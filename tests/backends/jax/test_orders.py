"""Programs whose transposes are put off give what they gave, whatever order their arrays lie in."""

import numpy as np
import pytest

pytest.importorskip("jax", reason="jax is not installed.")

import jax
import jax.numpy as jnp
from jax import lax
from xcnn_jax import convolution, orders, pooling
from xcnn_jax.how import How
from xcnn_jax.norms import norm_of
from xcnn_jax.programs import evaluated

from xcnn.training.optimizers import weight_norm

THREE = How((1, 1), ((1, 1), (1, 1)), (1, 1), 1, "highest", True)

ORDERS = (0, 3, 1, 2), (3, 2, 0, 1), (2, 0, 3, 1)
PROGRAMS = {  # of x (2, 3, 4, 6)
    "cell by cell": lambda x: jnp.where(x > 0.1, jnp.exp(x) * 2, -x) / (1 + x**2),
    "with a number for each channel": lambda x: (x - x.mean((0, 2, 3), keepdims=True)) * jnp.arange(3.0)[:, None, None],
    "softmax": lambda x: jax.nn.softmax(x, axis=1),
    "extremes": lambda x: (x.max((1, 3)), x.min(0), (x > 0).all(2), (x > 1).any((0, 3)), jnp.argmax(x, axis=2)),
    "flat": lambda x: x.reshape(2, -1) @ jnp.ones((72, 2)),
    "images in rows": lambda x: (x.reshape(6, 4, 6), x.reshape(2, 3, 24), x.reshape(2, 12, 6), x.reshape(144)),
    "cut apart": lambda x: x.reshape(2, 3, 2, 2, 3, 2).max((3, 5)),
    "cut across": lambda x: x.reshape(3, 2, 6, 4),
    "no longer one": lambda x: x[:, :1].squeeze(1)[:, None, ..., None] + jnp.ones((2, 1, 4, 6, 1)),
    "pieces": lambda x: (x[:, 1:, ::2, 1:5:3], lax.dynamic_slice(x, (1, 0, 2, 1), (1, 2, 2, 4))),
    "padded": lambda x: lax.pad(x, 0.5, ((0, 0, 0), (1, 2, 0), (-1, 1, 2), (0, -2, 1))),
    "turned round": lambda x: jnp.flip(x, axis=(1, 3)),
    "beside itself": lambda x: jnp.concatenate([x, jnp.ones((2, 1, 4, 6)), x * 2], axis=1),
    "in one row": lambda x: (
        jnp.vdot(x, x),
        jnp.vecdot(x.reshape(-1), 0 * x.reshape(-1)),
        jnp.abs(x.reshape(-1)).max(),
    ),
    "in rows that lie otherwise": lambda x: x.reshape(-1) @ x.transpose(1, 0, 3, 2).reshape(-1),
    "the place in one row": lambda x: (jnp.argmax(x.reshape(-1)), x.reshape(-1)[7], jnp.cumsum(x.reshape(-1))),
    "products of one row": lambda x: jnp.outer(x.reshape(-1), x.reshape(-1)),
    "one row either way": lambda x: lax.cond(x[0, 0, 0, 0] > 0, jnp.sum, jnp.max, x.reshape(-1)),
    "a row and its steps": lambda x: x.reshape(-1) * jnp.arange(144.0),
    "turned": lambda x: x.transpose(3, 1, 0, 2) + jnp.arange(6.0)[:, None, None, None],
    "summed with itself": lambda x: (jnp.vdot(x, x), lax.dot_general(x, x, (((0, 1, 2, 3), (0, 1, 2, 3)), ((), ())))),
    "products": lambda x: (jnp.einsum("ncij,ocij->no", x, x), jnp.einsum("ncij,nkij->nck", x, x), x @ x.mT),
    "pooled": lambda x: pooling.max_pool(x, (2, 2), stride=(2, 2), padding=((0, 0), (0, 0))),
    "pooled in steps": lambda x: pooling.max_pool(x, (3, 2), stride=(2, 1), padding=((1, 1), (0, 1))),
    "convolved": lambda x: convolution.correlate(jnp.tanh(x), jnp.arange(135.0).reshape(5, 3, 3, 3), THREE),
    "either way": lambda x: lax.cond(x[0, 0, 0, 0] > 0, lambda y: y.sum(1), lambda y: y.mean(1), x),
    "again and again": lambda x: lax.fori_loop(0, 3, lambda n, y: y * n + x, x),
    "a gradient": jax.grad(lambda x: (jax.nn.relu(x) ** 2).sum()),
    "a number": lambda x: 3.0,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_program(name, rng):
    x = rng.normal(size=(2, 3, 4, 6))
    compute = PROGRAMS[name]
    with jax.enable_x64(True):
        expected = compute(jnp.asarray(x))
        for order in ORDERS:
            given = orders.Turned(jnp.asarray(x.transpose(orders.inverse(order))), order)
            got = jax.tree.map(orders.plain, evaluated(compute, given), is_leaf=orders.is_value)
            assert jax.tree.structure(got) == jax.tree.structure(expected)
            for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)
                assert np.asarray(one).dtype == np.asarray(other).dtype


def transposes(program):
    """The shapes that a program brings into another order, in what it calls too."""
    for line in program.eqns:
        if line.primitive.name == "transpose":
            yield line.invars[0].aval.shape
        for inner in line.params.values():
            yield from transposes(inner.jaxpr) if hasattr(inner, "jaxpr") else ()


@pytest.mark.parametrize("taps", [3, 1])
def test_images_lie_as_convolutions_left_them(taps):
    """From the first convolution to the last none is copied: but for the first image, the last one and the kernels."""
    how = How((1, 1), ((taps // 2,) * 2,) * 2, (1, 1), 1, "highest", True)

    def block(x, k):
        y = convolution.correlate(x, k, how)
        y = (y - y.mean((0, 2, 3), keepdims=True)) / jnp.sqrt(y.var((0, 2, 3), keepdims=True) + 1e-5)
        y, _ = pooling.max_pool(jax.nn.relu(y + 1), (2, 2), stride=(2, 2), padding=((0, 0), (0, 0)))
        return convolution.correlate(y, k, how)

    x, k = jnp.ones((2, 16, 8, 8)), jnp.ones((16, 16, taps, taps))
    before = [*transposes(jax.make_jaxpr(block)(x, k).jaxpr)]
    after = [*transposes(jax.make_jaxpr(lambda x, k: orders.plain(evaluated(block, x, k)))(x, k).jaxpr)]
    assert len([shape for shape in before if shape[0] == len(x)]) == 4
    assert sorted(shape for shape in after if shape[0] == len(x) and len(shape) == 4) == [(2, 4, 4, 16), (2, 16, 8, 8)]


def test_norms_take_kernels_as_they_lie():
    """those of gradients, the slow way too, and of weights."""
    kernel = orders.held({"kernel": jnp.arange(270.0).reshape(3, 3, 5, 6)})["kernel"]

    def norms(w):
        weights = {"kernel": w, "bias": jnp.ones(4)}
        return norm_of(weights), weight_norm(weights, {"step": 0, "velocity": {"kernel": w}})

    def compute(cells):
        return evaluated(norms, orders.Turned(cells, kernel.order))

    assert not any(transposes(jax.make_jaxpr(compute)(kernel.cells).jaxpr))
    expected = np.linalg.norm(np.append(np.arange(270.0), np.ones(4)))
    np.testing.assert_allclose(jax.jit(compute)(kernel.cells), [expected] * 2, rtol=1e-6)
