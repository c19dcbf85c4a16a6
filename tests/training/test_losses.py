"""Losses against PyTorch, against closed forms at the extremes, and against bad labels."""

import math
from functools import partial

import numpy as np
import pytest
from whole import compiled

from xcnn.errors import DTypeError, OptionError, ShapeError
from xcnn.training import losses

LABELS = np.array([0, 2, 1, 2, 0])


def both(backend, loss, y, t):
    """Value and gradient on the host; on JAX the loss is compiled as a whole, as it is in steps."""
    value, dy = compiled(loss, backend)(backend.asarray(y), backend.asarray(t))
    return float(backend.to_numpy(value)), backend.to_numpy(dy)


def torch_table():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    f = torch.nn.functional
    return torch, {
        "cross_entropy": (losses.cross_entropy, f.cross_entropy, "logits", "labels"),
        "label_smoothing": (
            partial(losses.cross_entropy, label_smoothing=0.2),
            partial(f.cross_entropy, label_smoothing=0.2),
            "logits",
            "labels",
        ),
        "soft_labels": (losses.cross_entropy, f.cross_entropy, "logits", "soft"),
        "binary_cross_entropy": (losses.binary_cross_entropy, f.binary_cross_entropy, "probabilities", "bits"),
        "with_logits": (
            losses.binary_cross_entropy_with_logits,
            f.binary_cross_entropy_with_logits,
            "logits",
            "bits",
        ),
        "mse": (losses.mse, f.mse_loss, "logits", "reals"),
        "mae": (losses.mae, f.l1_loss, "logits", "reals"),
        "huber": (partial(losses.huber, delta=0.7), partial(f.huber_loss, delta=0.7), "logits", "reals"),
        "nll": (losses.nll, f.nll_loss, "logits", "labels"),
        "kl_divergence": (losses.kl_divergence, partial(f.kl_div, reduction="batchmean"), "logits", "soft"),
        "focal": (losses.focal, partial(sigmoid_focal, 2.0, 0.25), "logits", "bits"),
        "soft_focal": (partial(losses.focal, gamma=1.5, alpha=0.6), partial(sigmoid_focal, 1.5, 0.6), "logits", "soft"),
        "no_focus": (partial(losses.focal, gamma=0.0, alpha=1.0), partial(sigmoid_focal, 0.0, 1.0), "logits", "bits"),
        "hinge": (losses.hinge, lambda y, t: (1 - (2 * t - 1) * y).clamp(min=0).mean(), "logits", "bits"),
        "squared_hinge": (
            partial(losses.squared_hinge, margin=0.5),
            lambda y, t: ((0.5 - (2 * t - 1) * y).clamp(min=0) ** 2).mean(),
            "logits",
            "bits",
        ),
    }


def sigmoid_focal(gamma, alpha, y, t):
    """As torchvision.ops.sigmoid_focal_loss has it."""
    import torch

    p = torch.sigmoid(y)
    e = torch.nn.functional.binary_cross_entropy_with_logits(y, t, reduction="none")
    p_t = p * t + (1 - p) * (1 - t)
    return ((alpha * t + (1 - alpha) * (1 - t)) * (1 - p_t) ** gamma * e).mean()


@pytest.mark.parametrize(
    "name",
    [
        *("cross_entropy", "label_smoothing", "soft_labels", "binary_cross_entropy", "with_logits", "mse", "mae"),
        *("huber", "nll", "kl_divergence", "focal", "soft_focal", "no_focus", "hinge", "squared_hinge"),
    ],
)
def test_against_pytorch(name, backend, rng):
    torch, table = torch_table()
    ours, theirs, kind, labels = table[name]
    y = rng.normal(size=(5, 3)) if kind == "logits" else rng.uniform(0.01, 0.99, (5, 3))
    t = {
        "labels": LABELS,
        "soft": rng.dirichlet(np.ones(3), 5),
        "bits": (rng.random((5, 3)) > 0.5).astype(float),
        "reals": rng.normal(size=(5, 3)),
    }[labels]
    value, dy = both(backend, ours, y, t)
    y_t = torch.tensor(y, requires_grad=True)
    expected = theirs(y_t, torch.tensor(t))
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-13)
    np.testing.assert_allclose(dy, y_t.grad.numpy(), rtol=1e-12, atol=1e-16)


def test_cross_entropy_of_images(backend, rng):
    torch, _ = torch_table()
    y, t = rng.normal(size=(2, 4, 3, 2)), rng.integers(0, 4, (2, 3, 2))
    value, dy = both(backend, losses.cross_entropy, y, t)
    y_t = torch.tensor(y, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(y_t, torch.tensor(t))
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-13)
    np.testing.assert_allclose(dy, y_t.grad.numpy(), rtol=1e-12)


def test_dice_of_areas(backend, rng):
    """Written out for each sample and class, and its gradient by PyTorch."""
    torch, _ = torch_table()
    y, labels = rng.uniform(0.01, 0.99, (3, 4, 5, 2)), rng.integers(0, 4, (3, 5, 2))
    hot = np.moveaxis(np.eye(4)[labels], -1, 1)
    y_t = torch.tensor(y, requires_grad=True)
    t = torch.tensor(hot)
    inner, sums = (y_t * t).sum((2, 3)), y_t.sum((2, 3)) + t.sum((2, 3))
    for smooth in (1.0, 0.0, 7.5):
        y_t.grad = None
        expected = (1 - (2 * inner + smooth) / (sums + smooth)).mean()
        expected.backward(retain_graph=True)
        for target in (labels, hot):
            value, dy = both(backend, partial(losses.dice, smooth=smooth), y, target)
            np.testing.assert_allclose(value, expected.item(), rtol=1e-13)
            np.testing.assert_allclose(dy, y_t.grad.numpy(), rtol=1e-12)
    assert both(backend, losses.dice, hot, labels)[0] == pytest.approx(0, abs=1e-15)
    nothing = np.zeros((2, 1, 3, 3))
    assert both(backend, losses.dice, nothing, nothing)[0] == 0
    assert np.isfinite(both(backend, partial(losses.dice, smooth=0.0), nothing, nothing)[1]).all()
    weighted = both(backend, partial(losses.dice, weights=backend.asarray(np.array([1.0, 0.0, 0.0]))), y, labels)[0]
    assert weighted == pytest.approx(both(backend, losses.dice, y[:1], labels[:1])[0], rel=1e-13)


def test_contrastive_by_hand(backend, rng):
    """Each anchor and each other of its label, one by one; and its gradient by PyTorch."""
    torch, _ = torch_table()
    y, labels, temperature = rng.normal(size=(7, 3)), np.array([0, 1, 0, 2, 1, 0, 5]), 0.4
    y_t = torch.tensor(y, requires_grad=True)
    z = y_t / y_t.norm(dim=1, keepdim=True)
    anchors = []
    for i in range(7):
        others = [a for a in range(7) if a != i]
        below = sum(torch.exp(z[i] @ z[a] / temperature) for a in others)
        same = [torch.log(torch.exp(z[i] @ z[p] / temperature) / below) for p in others if labels[p] == labels[i]]
        anchors += [-sum(same) / len(same)] if same else []
    expected = sum(anchors) / len(anchors)
    expected.backward()
    value, dy = both(backend, partial(losses.contrastive, temperature=temperature), y, labels)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-13)
    np.testing.assert_allclose(dy, y_t.grad.numpy(), rtol=1e-11, atol=1e-15)


def test_contrastive_at_its_ends(backend):
    sharp = partial(losses.contrastive, temperature=0.001)
    y = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    value, dy = both(backend, sharp, y, np.array([0, 0, 1, 1]))
    assert np.isfinite(value)
    assert np.isfinite(dy).all()
    for labels in ([0, 1, 2, 3], [7] * 4):
        value, dy = both(backend, losses.contrastive, y, np.array(labels))
        assert np.isfinite(value)
        assert np.isfinite(dy).all()
    assert both(backend, losses.contrastive, y[:1], np.array([0]))[0] == 0
    hot = np.eye(2)[[0, 0, 1, 1]]
    assert both(backend, sharp, y, hot)[0] == both(backend, sharp, y, np.array([0, 0, 1, 1]))[0]
    with pytest.raises(ShapeError, match=r"X202.*a vector of each sample"):
        both(backend, losses.contrastive, y[:, :, None], np.zeros((4, 1)))


def test_triplets_are_the_hardest_of_the_batch(backend, rng):
    """PyTorch's loss of triplets, of each sample, the farthest of its label and the nearest other, found one by one."""
    torch, _ = torch_table()
    y, labels = rng.normal(size=(9, 3)), np.array([0, 1, 0, 2, 1, 0, 5, 1, 2])
    d = np.linalg.norm(y[:, None] - y, axis=2)
    same = [[j for j in range(9) if labels[j] == labels[i] and j != i] for i in range(9)]
    other = [[j for j in range(9) if labels[j] != labels[i]] for i in range(9)]
    anchors = [i for i in range(9) if same[i]]
    far = [max(same[i], key=d[i].__getitem__) for i in anchors]
    near = [min(other[i], key=d[i].__getitem__) for i in anchors]
    for margin in (0.2, 1.0, 4.0):
        y_t = torch.tensor(y, requires_grad=True)
        expected = torch.nn.TripletMarginLoss(margin, eps=0)(y_t[anchors], y_t[far], y_t[near])
        expected.backward()
        value, dy = both(backend, partial(losses.triplet, margin=margin), y, labels)
        np.testing.assert_allclose(value, expected.item(), rtol=1e-13)
        np.testing.assert_allclose(dy, y_t.grad.numpy(), rtol=1e-11, atol=1e-15)


def test_triplets_at_their_ends(backend):
    """Samples that are the same pull nowhere; without two labels nothing costs; far numbers do not overflow."""
    y = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    value, dy = both(backend, losses.triplet, y, np.array([0, 0, 1, 1]))
    assert value == pytest.approx((1 + 1 + 2 + 1) / 4)
    np.testing.assert_allclose(dy, [[-0.25, 0], [0, 0], [0.5, 0], [-0.25, 0]], atol=1e-7)
    for labels in ([0, 1, 2, 3], [7] * 4):
        value, dy = both(backend, losses.triplet, y, np.array(labels))
        assert value == 0
        assert not dy.any()
    assert both(backend, losses.triplet, y[:1], np.array([0]))[0] == 0
    assert both(backend, losses.triplet, y, np.eye(2)[[0, 0, 1, 1]])[0] == pytest.approx(1.25)
    far = both(backend, losses.triplet, y * np.float32(1e30), np.array([0, 1, 1, 0]))
    assert far[0] == pytest.approx(2.5e29)
    assert np.isfinite(far[1]).all()
    with pytest.raises(ShapeError, match=r"X202.*a vector of each sample"):
        both(backend, losses.triplet, y[:, :, None], np.zeros((4, 1)))
    with pytest.raises(OptionError, match=r"X104.*margin"):
        both(backend, partial(losses.triplet, margin=0), y, np.zeros(4, int))


def test_focal_and_hinge_at_the_ends(backend):
    y, t = np.array([[1e4, -1e4, 0.0]], dtype=np.float32), np.array([[1.0, 0.0, 1.0]], dtype=np.float32)
    for loss in (losses.focal, partial(losses.focal, gamma=0.5), losses.hinge, losses.squared_hinge):
        for target in (t, 1 - t):
            value, dy = both(backend, loss, y, target)
            assert np.isfinite(value)
            assert np.isfinite(dy).all()
    right = both(backend, losses.focal, y[:, :2], t[:, :2])
    assert right[0] == 0
    assert not right[1].any()


def test_places_that_are_ignored_do_not_count(backend, rng):
    y, labels = np.log(rng.dirichlet(np.ones(3), (2, 4))).transpose(0, 2, 1), rng.integers(0, 3, (2, 4))
    for loss in (losses.nll, losses.focal):
        kept = both(backend, loss, y[:, :, :2], labels[:, :2])
        holes = labels.copy()
        holes[:, 2:] = -100
        value, dy = both(backend, partial(loss, ignore_index=-100), y, holes)
        assert value == pytest.approx(kept[0], rel=1e-13)
        np.testing.assert_allclose(dy[:, :, :2], kept[1], rtol=1e-12)
        assert not dy[:, :, 2:].any()


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_gradient_by_differences(name, backend, rng):
    loss = losses.LOSSES[name]
    y = rng.uniform(0.05, 0.95, (4, 3))
    t = rng.uniform(0.05, 0.95, (4, 3))
    v = rng.normal(size=y.shape)
    _, dy = both(backend, loss, y, t)
    up, down = both(backend, loss, y + 1e-6 * v, t)[0], both(backend, loss, y - 1e-6 * v, t)[0]
    np.testing.assert_allclose(np.sum(dy * v), (up - down) / 2e-6, rtol=1e-7)


@pytest.mark.parametrize(
    "loss", [losses.cross_entropy, losses.binary_cross_entropy, losses.binary_cross_entropy_with_logits]
)
def test_labels_mean_their_one_hot_rows(loss, backend, rng):
    y = rng.uniform(0.1, 0.9, (5, 3))
    value, dy = both(backend, loss, y, LABELS)
    expected_value, expected_dy = both(backend, loss, y, np.eye(3)[LABELS])
    assert value == expected_value
    np.testing.assert_array_equal(dy, expected_dy)


def test_a_single_unit_takes_labels_as_its_column(backend, rng):
    y, t = rng.uniform(0.1, 0.9, (5, 1)), np.array([0, 1, 1, 0, 1])
    assert (
        both(backend, losses.binary_cross_entropy, y, t)[0]
        == both(backend, losses.binary_cross_entropy, y, t[:, None].astype(float))[0]
    )


def test_logits_of_ten_thousand_stay_finite_and_right(backend):
    y = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype=np.float32)
    right, wrong = np.array([0, 1]), np.array([1, 0])
    assert both(backend, losses.cross_entropy, y, right)[0] == 0
    value, dy = both(backend, losses.cross_entropy, y, wrong)
    assert value == 2e4
    np.testing.assert_array_equal(dy, [[0.5, -0.5], [-0.5, 0.5]])
    value, dy = both(backend, losses.binary_cross_entropy_with_logits, y, wrong)
    assert value == 1e4
    np.testing.assert_array_equal(dy, [[0.25, -0.25], [-0.25, 0.25]])
    assert both(backend, losses.binary_cross_entropy_with_logits, y, right)[0] == 0


def test_certain_probabilities_stay_finite(backend):
    y = np.array([[1.0, 0.0]], dtype=np.float32)
    value, dy = both(backend, losses.binary_cross_entropy, y, np.array([[0.0, 1.0]], dtype=np.float32))
    below_one, tiny = 1 - np.finfo(np.float32).eps / 2, float(np.finfo(np.float32).smallest_normal)
    assert value == pytest.approx(-(math.log(1 - below_one) + math.log(tiny)) / 2, rel=1e-6)
    np.testing.assert_allclose(dy, [[0.5 / (1 - below_one), -0.5 / tiny]], rtol=1e-5)
    assert both(backend, losses.binary_cross_entropy, y, y)[0] == pytest.approx(-math.log(below_one) / 2, rel=1e-5)


def test_small_probabilities_keep_their_gradients_in_float32(backend):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    y = np.array([[2e-9, 1e-20, 1e-8, 0.3]], dtype=np.float32)
    t = np.array([[1.0, 1.0, 0.0, 1.0]], dtype=np.float32)
    value, dy = both(backend, losses.binary_cross_entropy, y, t)
    y_t = torch.tensor(y.astype(np.float64), requires_grad=True)
    expected = torch.nn.functional.binary_cross_entropy(y_t, torch.tensor(t.astype(np.float64)))
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(dy[0, [0, 2, 3]], y_t.grad.numpy()[0, [0, 2, 3]], rtol=1e-5)
    assert dy[0, 1] == pytest.approx(-1e20 / 4, rel=1e-5)  # PyTorch's is cut at 1e12


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint8, np.int32, np.float32])
def test_labels_of_any_type_are_the_same_labels(kind, backend, rng):
    y, t = rng.normal(size=(6, 300)), np.array([0, 1, 1, 0, 1, 0])
    expected = both(backend, losses.cross_entropy, y, t)
    value, dy = both(backend, losses.cross_entropy, y, t.astype(kind))
    assert value == expected[0]
    np.testing.assert_array_equal(dy, expected[1])
    assert math.isnan(both(backend, losses.cross_entropy, y, t + 0.5)[0])


def test_whole_number_predictions_are_refused(backend):
    for loss in losses.LOSSES.values():
        with pytest.raises(DTypeError, match="X103"):
            loss(backend.asarray(np.ones((2, 3), int)), backend.asarray(np.ones((2, 3))))


@pytest.mark.parametrize(
    "loss", [losses.cross_entropy, losses.binary_cross_entropy, losses.binary_cross_entropy_with_logits]
)
@pytest.mark.parametrize("label", [-1, 3, 7])
def test_a_label_outside_the_classes_gives_nan_not_a_number_that_looks_right(loss, label, backend):
    assert math.isnan(both(backend, loss, np.full((2, 3), 0.4), np.array([0, label]))[0])


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_a_batch_of_zero(name, backend):
    value, dy = both(backend, losses.LOSSES[name], np.zeros((0, 3)), np.zeros((0, 3)))
    assert value == 0
    assert dy.shape == (0, 3)


def test_float32_stays_float32(backend):
    for loss in losses.LOSSES.values():
        y, t = backend.asarray(np.full((2, 3), 0.5), "float32"), backend.asarray(np.full((2, 3), 0.25))
        value, dy = compiled(loss, backend)(y, t)
        assert (backend.to_numpy(value).dtype, backend.to_numpy(dy).dtype) == (np.float32, np.float32)


def test_targets_of_another_shape_are_refused(backend):
    y = backend.asarray(np.zeros((4, 3)))
    for loss in losses.LOSSES.values():
        with pytest.raises(ShapeError, match=r"\[X202\].*\n.*got targets \(4, 2\), predictions \(4, 3\)"):
            loss(y, backend.asarray(np.zeros((4, 2))))
    with pytest.raises(ShapeError, match="X202"):
        losses.mse(y, backend.asarray(np.zeros(4)))


def test_hits(backend):
    y, t = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), np.array([1, 1, 1])
    asarray = backend.asarray
    assert int(backend.to_numpy(losses.count_correct(asarray(y), asarray(t), 0.5))) == 2
    assert int(backend.to_numpy(losses.count_correct(asarray(y), asarray(np.eye(2)[t]), 0.5))) == 2
    assert int(backend.to_numpy(losses.count_correct(asarray(y[:, 1:]), asarray(t), 0.5))) == 2
    assert int(backend.to_numpy(losses.count_correct(asarray(y[:, 1:]), asarray(t[:, None]), 0.75))) == 1


class Unhashable:
    """A loss that is equal to any other."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def __call__(self, y, t):
        return (y * y).sum(), 2 * y


def test_losses_by_name():
    assert losses.loss_function("mse") is losses.mse
    assert losses.loss_name(partial(losses.huber, delta=2.0)) == "huber"
    assert losses.loss_name(lambda y, t: (y, y)) == ""
    assert losses.loss_name(Unhashable()) == ""
    with pytest.raises(OptionError, match=r"no loss 'quantile'"):
        losses.loss_function("quantile")
