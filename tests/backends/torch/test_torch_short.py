"""Functions of PyTorch's that stand in recorded code for the operations that they call."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from xcnn_torch.recording import SHORT, Recording  # noqa: E402

aten = torch.ops.aten
SGD = {"weight_decay": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": True}
ADAM = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "eps": 1e-8, "amsgrad": False}


def given():
    """Arguments of each operation, as recordings have them."""
    a, b, c = (torch.arange(1.0, 13.0).reshape(3, 4) * n for n in (1, 2, 3))
    line, whole, rate = torch.arange(4.0), torch.tensor([1, 2, 0]), torch.tensor(0.1, dtype=torch.float64)
    moments = [a.clone()], [b.clone()], [c.clone()], [c.clone()], [], [torch.tensor(3.0)]
    plain = {"lr": rate, "maximize": False}
    return {
        aten.add.Tensor: [((a, b), {"alpha": 0.9}), ((a, b), {}), ((a, 2), {})],
        aten.addcmul.default: [((a, b, rate), {"value": -1}), ((a, b, c), {})],
        aten.addmm.default: [((line, a, b.t() @ c), {}), ((line, a, b.t() @ c), {"beta": 0.5, "alpha": 2})],
        aten.mm.default: [((a, b.t()), {})],
        aten.t.default: [((a,), {})],
        aten.cat.default: [(([line, line],), {}), (([a, b], 1), {})],
        aten.clone.default: [((a.t(),), {}), ((a.t(),), {"memory_format": torch.contiguous_format})],
        aten.split_with_sizes.default: [((line, [1, 3]), {}), ((a, [2, 2], 1), {})],
        aten.view.default: [((a, [-1]), {}), ((line, [2, 2]), {})],
        aten.as_strided.default: [((line, [2, 2], [1, 2]), {}), ((line, [2], [1], 1), {})],
        aten.sum.default: [((a,), {}), ((whole == 1,), {}), ((a,), {"dtype": torch.float64})],
        aten.sum.dim_IntList: [((a, [0]), {}), ((a, [0, 1], True), {}), ((a, [1]), {"dtype": torch.float64})],
        aten.count_nonzero.default: [((whole == 1,), {})],
        aten.argmax.default: [((a, 1), {}), ((a,), {})],
        aten.eq.Tensor: [((whole, whole.flip(0)), {}), ((whole, whole[0]), {})],
        aten.relu.default: [((a - 5,), {})],
        aten.sigmoid.default: [((a - 5,), {})],
        aten._log_softmax.default: [((a, 1, False), {})],
        aten._log_softmax_backward_data.default: [((a, -b, 1, torch.float32), {})],
        aten.linalg_vector_norm.default: [((a,), {}), ((a, 2, [1]), {})],
        aten._fused_sgd_.tensor_lr: [((*moments[:3],), {**SGD, **plain, "is_first_step": False})],
        aten._fused_adam_.tensor_lr: [(moments, {**ADAM, **plain})],
        aten._fused_adamw_.tensor_lr: [(moments, {**ADAM, **plain})],
    }


def recorded(function, args, kwargs):
    """The lines that a call comes to, its results, and what has become of its arguments."""
    tensors = list(dict.fromkeys(torch.utils._pytree.tree_leaves((args, kwargs))))
    with Recording([each for each in tensors if isinstance(each, torch.Tensor)]) as recording:
        results = function(*args, **kwargs)
    assert not recording.reason
    return [str(line) for line in recording.lines], torch.utils._pytree.tree_leaves((results, args))


@pytest.mark.parametrize("operation", SHORT, ids=str)
def test_a_function_is_that_operation(operation):
    for n in range(len(given()[operation])):
        lines, values = recorded(operation, *given()[operation][n])
        short_lines, short_values = recorded(SHORT[operation], *given()[operation][n])
        assert len(lines) == 1
        assert short_lines == lines
        for value, other in zip(values, short_values, strict=True):
            assert (torch.equal(value, other) and value.dtype == other.dtype) if torch.is_tensor(value) else True
