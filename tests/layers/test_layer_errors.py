"""What layers say when something does not fit: the class, the code, the words and the hint."""

import numpy as np
import pytest
from cases import CASES

import xcnn
from xcnn.core import random, tree
from xcnn.errors import BackendError, DTypeError, OptionError, ShapeError
from xcnn.layers import (
    ELU,
    AdaptiveAveragePool2D,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    ClippedReLU,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    GroupNorm,
    HardSigmoid,
    InstanceNorm,
    LayerNorm,
    LeakyReLU,
    LocalResponseNorm,
    LogSoftmax,
    MaxPool1D,
    MaxPool2D,
    Next,
    PixelShuffle,
    PReLU,
    ReLU,
    Reshape,
    Residual,
    Resize,
    Run,
    Scale,
    Sequential,
    Softmax,
    SpatialDropout2D,
    StandardizedConv2D,
    StochasticDepth,
    UpSampling2D,
    ZeroPadding2D,
)


def init(layer, shape):
    return layer.init(np.random.default_rng(0), shape)[0]


def call(layer, made_for, x, backend, train=True):
    weights = tree.map(backend.asarray, init(layer, made_for))
    return layer(weights, backend.asarray(x), Run(backend, train))


def told(error):
    """All that the error says, on one line."""
    return " ".join(str(error.value).split())


@pytest.mark.parametrize(
    ("layer", "made_for", "got", "words"),
    [
        (Conv2D(4, 3), (1, 8, 8), (3, 8, 8), "[X101] Conv2D expects 1 input channel but got 3. got x (2, 3, 8, 8)"),
        (Conv2D(4, 3), (3, 8, 8), (8, 8, 3), "hint: arrays are (batch, channels, height, width): x.transpose(0, 3, 1,"),
        (Conv2D(4, 3, groups=2), (4, 8, 8), (2, 8, 8), "Conv2D expects 4 input channels but got 2."),
        (Conv2DTranspose(4, 3), (2, 8, 8), (3, 8, 8), "Conv2DTranspose expects 2 input channels but got 3."),
        (
            DepthwiseConv2D(3, depth_multiplier=2),
            (2, 8, 8),
            (4, 8, 8),
            "DepthwiseConv2D expects 2 input channels but got 4.",
        ),
        (Conv1D(4, 3), (2, 8), (3, 8), "Conv1D expects 2 input channels but got 3. got x (2, 3, 8) = (batch, channels"),
        (BatchNorm(), (2, 8), (3, 8), "BatchNorm expects 2 input channels but got 3."),
        (BatchNorm(), (2,), (3,), "BatchNorm expects 2 input features but got 3."),
        (GroupNorm(2), (2, 8), (4, 8), "GroupNorm expects 2 input channels but got 4."),
        (LayerNorm(), (2, 3, 4), (2, 4, 3), "LayerNorm expects sizes (2, 3, 4) on axes (1, 2, 3). got x (2, 2, 4, 3)"),
        (PReLU(), (2, 8), (3, 8), "PReLU expects 2 input channels but got 3."),
        (Scale(), (2,), (3,), "Scale expects 2 input features but got 3."),
        (InstanceNorm(), (2, 8), (3, 8), "InstanceNorm expects 2 input channels but got 3."),
        (PixelShuffle(2), (4, 2, 2), (6, 2, 2), "PixelShuffle makes 2x2 pixels of 4 channels, which do not divide 6."),
        (Conv1DTranspose(4, 3), (2, 8), (3, 8), "Conv1DTranspose expects 2 input channels but got 3."),
        (StandardizedConv2D(4, 3), (2, 8, 8), (3, 8, 8), "StandardizedConv2D expects 2 input channels but got 3."),
        (Reshape((3, -1)), (6,), (7,), "Reshape can't make (3, -1) of (7,). got 7 cells for each sample, the target"),
        (
            Conv2D(4, 3, bias="untied"),
            (1, 8, 8),
            (1, 3, 3),
            "Conv2D has an untied bias for an output of 6x6 but its output is 1x1. got an output (2, 4, 1, 1), the",
        ),
        (
            Conv2DTranspose(4, 3, bias="untied"),
            (1, 1, 1),
            (1, 2, 2),
            "Conv2DTranspose has an untied bias for an output of 3x3 but its output is 4x4.",
        ),
        (Conv1D(4, 3, bias="untied"), (1, 3), (1, 8), "Conv1D has an untied bias for an output of 1x1 but"),
        (DepthwiseConv2D(3, bias="untied"), (1, 3, 3), (1, 4, 3), "DepthwiseConv2D has an untied bias for an output"),
    ],
    ids=lambda v: repr(v)[:40],
)
def test_sizes_that_do_not_fit(layer, made_for, got, words, backend):
    with pytest.raises(ShapeError) as error:
        call(layer, made_for, np.zeros((2, *got)), backend)
    assert error.value.code == "X101"
    assert words in told(error)


@pytest.mark.parametrize(
    "layer",
    [
        Conv2D(4, 3),
        Conv2DTranspose(4, 3),
        DepthwiseConv2D(3),
        MaxPool2D(),
        AveragePool2D(),
        GlobalAveragePool2D(),
        GlobalMaxPool2D(),
        ZeroPadding2D(),
        UpSampling2D(),
        SpatialDropout2D(0.5),
        BatchNorm(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("train", [False, True])
def test_images_without_their_batch_or_channel_axis(layer, train, backend):
    name, few = type(layer).__name__, (6, 7) if not isinstance(layer, BatchNorm) else ()
    words = f"{name} expects (channels, height, width) for each sample but got {len(few)} axes."
    for attempt in (
        lambda: init(layer, few),
        lambda: call(layer, (4, 6, 7), np.zeros((2, *few)), backend, train),
    ):
        with pytest.raises(ShapeError) as error:
            attempt()
        assert error.value.code == "X101"
        assert words in told(error)
        assert ("hint: images are (channels, height, width): add the channel axis, x[:, None]." in told(error)) == bool(
            few
        )


def test_signals_and_vectors_of_another_rank(backend):
    with pytest.raises(ShapeError, match=r"Conv1D expects \(channels, length\) for each sample but got 3 axes."):
        call(Conv1D(2, 3), (2, 8), np.zeros((2, 2, 8, 8)), backend)
    with pytest.raises(ShapeError, match=r"hint: put Flatten\(\) or GlobalAveragePool2D\(\) before it."):
        call(Dense(2), (8,), np.zeros((2, 2, 8, 8)), backend)


@pytest.mark.parametrize(
    ("layer", "made_for", "got", "words"),
    [
        (Conv2D(4, 5), (1, 8, 8), (1, 3, 4), "Conv2D has a 5x5 kernel but its input is only 3x4. output ="),
        (Conv2D(4, 3, dilation=2), (1, 8, 8), (1, 4, 8), "Conv2D has a 5x5 kernel but its input is only 4x8."),
        (DepthwiseConv2D(5), (1, 8, 8), (1, 3, 4), "DepthwiseConv2D has a 5x5 kernel but its input is only 3x4."),
        (Conv1D(4, 5, padding=(0, 1)), (1, 8), (1, 3), "Conv1D has a 1x5 kernel but its input is only 1x3, 1x4 with"),
        (MaxPool2D(3), (1, 8, 8), (1, 3, 2), "MaxPool2D has a 3x3 kernel but its input is only 3x2."),
        (AveragePool2D(3), (1, 8, 8), (1, 3, 2), 'hint: use padding="same" or "full", a smaller kernel, or fewer'),
        (
            Cropping2D(2),
            (1, 8, 8),
            (1, 4, 5),
            "Cropping2D leaves nothing of an input of 4x5. output = input - ",
        ),
        (Resize(factor=0.3), (1, 8, 8), (1, 3, 8), "Resize leaves nothing of an input of 3x8."),
        (
            Conv2DTranspose(4, 3, padding=2),
            (1, 8, 8),
            (1, 2, 8),
            "Conv2DTranspose has a padding that leaves nothing of",
        ),
    ],
    ids=lambda v: repr(v)[:40],
)
def test_kernels_that_do_not_fit(layer, made_for, got, words, backend):
    for attempt in (
        lambda: init(layer, got),
        lambda: call(layer, made_for, np.zeros((2, *got)), backend),
    ):
        with pytest.raises(ShapeError) as error:
            attempt()
        assert error.value.code == "X102"
        assert words in told(error)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv2D(4, 3), (2, 8, 8)),
        (Conv1D(4, 3), (2, 8)),
        (BatchNorm(), (2, 8, 8)),
        (LayerNorm(), (5,)),
        (MaxPool2D(), (2, 8, 8)),
        (ReLU(), (5,)),
        (Dropout(0.5), (5,)),
        (Softmax(), (5,)),
        (UpSampling2D(), (2, 8, 8)),
    ],
    ids=repr,
)
def test_bytes_are_refused(layer, shape, backend):
    with pytest.raises(DTypeError) as error:
        call(layer, shape, np.zeros((2, *shape), dtype=np.uint8), backend)
    assert error.value.code == "X103"
    assert type(layer).__name__ in told(error)
    assert "uint8" in told(error)
    assert "/ 255" in told(error)


def test_single_precision_does_not_meet_double(backend):
    with pytest.raises(DTypeError, match=r"Conv2D has a kernel of .*float64.* but x is .*float32"):
        call(Conv2D(4, 3), (2, 8, 8), np.zeros((2, 2, 8, 8), dtype=np.float32), backend)


@pytest.mark.parametrize(
    ("layer", "shape", "weight"),
    [
        (Conv2D(4, 3), (2, 8, 8), "kernel"),
        (DepthwiseConv2D(3), (2, 8, 8), "kernel"),
        (Conv2DTranspose(4, 3), (2, 8, 8), "kernel"),
        (Conv1D(4, 3), (2, 8), "kernel"),
        (BatchNorm(), (2, 8), "scale"),
        (LayerNorm(), (2, 8), "scale"),
        (GroupNorm(2), (2, 8), "scale"),
    ],
    ids=repr,
)
def test_arrays_of_two_libraries_do_not_meet(layer, shape, weight):
    strict = xcnn.backend("strict")
    weights = tree.map(strict.asarray, init(layer, shape))
    with pytest.raises(BackendError) as error:
        layer(weights, np.zeros((2, *shape)), Run(strict))
    assert error.value.code == "X301"
    assert f"{type(layer).__name__} has its {weight} on array_api_strict" in told(error)
    assert "but x is on numpy. hint: model.to(...)" in told(error)


def test_the_gradient_has_its_outputs_shape(backend):
    for layer, shape in [
        (Conv1D(4, 3), (2, 8)),
        (DepthwiseConv2D(3), (2, 8, 8)),
        (BatchNorm(), (3,)),
        (Softmax(), (3,)),
    ]:
        _, backward = call(layer, shape, np.zeros((2, *shape)), backend)
        with pytest.raises(ShapeError, match=rf"{type(layer).__name__} got a gradient that is not shaped like its out"):
            backward(backend.asarray(np.zeros((1, 1))))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Conv2D(0, 3), "filters must be a whole number of at least 1; got 0."),
        (lambda: Conv2D(4, 3, groups=3), "Conv2D has 3 groups, which do not divide 4 filters."),
        (lambda: Conv2D(4, (3, 0)), "kernel_size must be a whole number of at least 1, or two of them; got (3, 0)."),
        (lambda: Conv2D(4, 3, padding="sam"), "padding must be"),
        (lambda: Conv2D(4, 3, bias="tied"), "bias must be True, False or \"untied\"; got 'tied'."),
        (lambda: Conv2D(4, 3, kernel_initializer="he"), "there is no initializer 'he'."),
        (lambda: init(Conv2D(4, 3, groups=2), (3, 8, 8)), "Conv2D has 2 groups, which do not divide 3 channels."),
        (
            lambda: Conv2DTranspose(4, 3, stride=2, output_padding=2),
            "output_padding must be below the stride, and 0 for",
        ),
        (
            lambda: Conv2DTranspose(4, 3, stride=2, padding="same", output_padding=1),
            "output_padding must be below the stride, and 0 for",
        ),
        (lambda: init(Conv2DTranspose(4, 3, groups=2), (3, 8, 8)), "Conv2DTranspose has 2 groups, which do not"),
        (
            lambda: DepthwiseConv2D(3, depth_multiplier=0),
            "depth_multiplier must be a whole number of at least 1",
        ),
        (lambda: DepthwiseConv2D(3, stride=0), "stride must be a whole number of at least 1, or two of them; got 0."),
        (lambda: Conv1D(4, (3, 3)), "Conv1D: kernel_size must be a whole number; got (3, 3)."),
        (lambda: Conv1D(4, 3, padding=(1, 2, 3)), "padding must be"),
        (
            lambda: Conv1D(4, 3, padding=-1),
            "padding must be a whole number of at least 0, or two of them; got (0, -1).",
        ),
        (lambda: MaxPool2D(2, padding=2), "padding must be smaller than the window, 2x2; got 2."),
        (lambda: AveragePool2D((3, 1), padding=1), "padding must be smaller than the window, 3x1; got 1."),
        (lambda: MaxPool2D(0), "pool_size must be a whole number of at least 1, or two of them; got 0."),
        (lambda: MaxPool2D(2, 0), "stride must be a whole number of at least 1, or two of them; got 0."),
        (lambda: Reshape((2, -1, -1)), "only one size of target_shape can be -1; got (2, -1, -1)."),
        (lambda: Reshape((2, 0)), "target_shape must be sizes of at least 1, or -1; got (2, 0)."),
        (lambda: Reshape(6), "Reshape: target_shape must be a tuple; got 6."),
        (lambda: ZeroPadding2D("same"), "ZeroPadding2D: padding must be a whole number or a tuple; got 'same'."),
        (lambda: ZeroPadding2D(-1), "padding must be a whole number of at least 0, or two of them; got -1."),
        (lambda: UpSampling2D(0), "size must be a whole number of at least 1, or two of them; got 0."),
        (lambda: UpSampling2D(2, "cubic"), 'interpolation must be one of "nearest", "bilinear"; got \'cubic\'.'),
        (lambda: BatchNorm(momentum=1), "momentum must be at least 0 and below 1; got 1."),
        (lambda: BatchNorm(epsilon=0), "epsilon must be a positive number; got 0."),
        (lambda: LayerNorm(epsilon=-1.0), "epsilon must be a positive number; got -1.0."),
        (lambda: LayerNorm(axis=0), "LayerNorm has axis 0, which is the batch's."),
        (lambda: LayerNorm(axis=(1, 0)), "LayerNorm has axis 0, which is the batch's."),
        (lambda: LayerNorm(axis=()), "LayerNorm must have one axis or several different ones; got ()."),
        (lambda: LayerNorm(axis=(1.5,)), "LayerNorm must have one axis or several different ones; got (1.5,)."),
        (lambda: Softmax(0), "Softmax has axis 0, which is the batch's."),
        (lambda: init(LayerNorm(axis=3), (2, 3)), "LayerNorm has axis 3, but the axes are 1 to 2 (0 is the batch's)."),
        (lambda: init(LayerNorm(axis=(1, -2)), (2, 3)), "LayerNorm must have one axis or several different ones; got"),
        (lambda: init(GroupNorm(2), (3, 8, 8)), "GroupNorm has 2 groups, which do not divide 3 channels."),
        (lambda: GroupNorm(0), "groups must be a whole number of at least 1; got 0."),
        (lambda: Dropout(1), "rate must be at least 0 and below 1; got 1."),
        (lambda: Dropout(float("nan")), "rate must be at least 0 and below 1; got nan."),
        (lambda: StochasticDepth(1.0), "rate must be at least 0 and below 1; got 1.0."),
        (lambda: SpatialDropout2D(-0.1), "rate must be at least 0 and below 1; got -0.1."),
        (lambda: LeakyReLU(-0.1), "negative_slope must be at least 0"),
        (lambda: ELU(float("inf")), "alpha must be at least 0"),
        (lambda: init(Softmax(2), (3,)), "Softmax has axis 2, but the axes are 1 to 1 (0 is the batch's)."),
        (lambda: Softmax("channels"), "Softmax: axis must be a whole number; got 'channels'."),
        (lambda: init(Concatenate(), (3,)), "Concatenate needs at least one branch."),
        (lambda: ClippedReLU(0), "max_value must be a positive number; got 0."),
        (lambda: HardSigmoid(-0.2), "slope must be a positive number; got -0.2."),
        (lambda: PReLU(initial=-1.0), "initial must be at least 0"),
        (lambda: Scale(float("inf")), "initial must be a finite number; got inf."),
        (lambda: LogSoftmax(0), "LogSoftmax has axis 0, which is the batch's."),
        (lambda: InstanceNorm(epsilon=0), "epsilon must be a positive number; got 0."),
        (lambda: LocalResponseNorm(0), "size must be a whole number of at least 1; got 0."),
        (lambda: LocalResponseNorm(alpha=-1.0), "alpha must be at least 0"),
        (lambda: PixelShuffle(0), "factor must be a whole number of at least 1; got 0."),
        (lambda: Cropping2D("same"), "Cropping2D: cropping must be a whole number or a tuple; got 'same'."),
        (lambda: Cropping2D((1, -1)), "cropping must be a whole number of at least 0, or two of them; got (1, -1)."),
        (lambda: Resize(), "Resize takes a size or a factor, one of the two. hint: Resize(factor=2), or Resize(32)."),
        (lambda: Resize(3, factor=2), "Resize takes a size or a factor, one of the two."),
        (lambda: Resize(factor=0), "factor must be a positive number, or two of them; got 0."),
        (lambda: Resize(factor=(1.0, 2.0, 3.0)), "factor must be a positive number, or two of them; got"),
        (
            lambda: Resize(3, interpolation="cubic"),
            'interpolation must be one of "nearest", "nearest-exact", "bili',
        ),
        (lambda: Resize(3, align_corners=True), 'align_corners goes with interpolation="bilinear" alone.'),
        (lambda: AdaptiveAveragePool2D(0), "output_size must be a whole number of at least 1, or two of them; got 0."),
        (lambda: MaxPool1D(2, padding=2), "padding must be smaller than the window"),
        (lambda: AveragePool1D(2, 0), "stride must be a whole number of at least 1; got 0."),
        (lambda: Conv1DTranspose(4, 3, stride=2, output_padding=2), "output_padding must be below the stride"),
        (lambda: StandardizedConv2D(4, 3, epsilon=0), "epsilon must be a positive number; got 0."),
        (lambda: Residual(ReLU, shortcut=ReLU()), "Residual holds layers; "),
    ],
    ids=lambda v: v[:50] if isinstance(v, str) else "",
)
def test_options_that_can_not_be(make, words):
    with pytest.raises(OptionError) as error:
        make()
    assert error.value.code == "X104"
    assert words in told(error)


@pytest.mark.parametrize(
    ("net", "shape", "words", "hint"),
    [
        (
            Residual(Conv2D(8, 3, padding="same")),
            (3, 6, 6),
            "Residual adds (8, 6, 6) from its layers to (3, 6, 6) from its shortcut. got (3, 6, 6) for each sample",
            "use shortcut=Conv2D(8, 1).",
        ),
        (
            Residual(Conv2D(8, 3, stride=2, padding="same")),
            (3, 7, 6),
            "(8, 4, 3)",
            "use shortcut=Conv2D(8, 1, stride=(2, 2)).",
        ),
        (Residual(Conv2D(3, 3)), (3, 6, 6), "(3, 4, 4)", 'padding="same" in the layers keeps height and width.'),
        (Residual(Dense(3), shortcut=Dense(2)), (4,), "(3,) from its layers to (2,)", "give one shape."),
        (
            Concatenate(Conv2D(2, 3), wide=Conv2D(2, 1)),
            (3, 6, 6),
            "Concatenate joins channels, but its branches' outputs differ in more than these. "
            "got conv1 (2, 4, 4), wide (2, 6, 6)",
            'padding="same" and one stride in all branches give one height and width.',
        ),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_branches_that_do_not_meet(net, shape, words, hint):
    with pytest.raises(ShapeError) as error:
        init(net, shape)
    assert error.value.code == "X101"
    assert words in told(error)
    assert error.value.hint.endswith(hint)


def test_the_shortcut_that_a_hint_proposes_fits():
    body = Conv2D(8, 3, stride=2, padding="same")
    assert Residual(body, shortcut=Conv2D(8, 1, stride=(2, 2))).init(np.random.default_rng(0), (3, 7, 6))[1] == (
        8,
        4,
        3,
    )


def test_branches_that_met_when_built_but_not_in_a_call(backend):
    net = Residual(Conv2D(3, 3), shortcut=Conv2D(3, 6))
    with pytest.raises(ShapeError):
        init(net, (3, 6, 6))
    with pytest.raises(ShapeError, match=r"Concatenate joins channels"):
        call(Concatenate(Conv2D(2, 3, stride=2), Conv2D(2, 2, stride=2)), (3, 5, 5), np.zeros((2, 3, 6, 6)), backend)


def test_names_of_the_layers_around_stand_in_the_error(backend):
    net = Sequential(Residual(Concatenate(left=Conv2D(1, 1), right=Conv2D(2, 1)), shortcut=DepthwiseConv2D(1)))
    with pytest.raises(ShapeError, match=r"Conv2D 'residual1.concatenate1.left' expects 3 input channels but got 2."):
        call(net, (3, 4, 4), np.zeros((2, 2, 4, 4)), backend)


WINDOWS = [
    (xcnn.Conv2D(2, 3, padding="same"), (2, 4, 5)),
    (xcnn.Conv2DTranspose(2, 3), (2, 4, 5)),
    (xcnn.DepthwiseConv2D(3, padding=2), (2, 4, 5)),
    (xcnn.Conv1D(2, 3, padding=2), (2, 6)),
    (xcnn.MaxPool2D(3, padding=1), (2, 4, 5)),
    (xcnn.AveragePool2D(3, padding=1), (2, 4, 5)),
    (xcnn.GlobalMaxPool2D(), (2, 4, 5)),
    (xcnn.GlobalAveragePool2D(), (2, 4, 5)),
    (xcnn.AdaptiveAveragePool2D(2), (2, 4, 5)),
    (xcnn.Resize(2), (2, 4, 5)),
    (xcnn.MaxPool1D(3, padding=1), (2, 6)),
    (xcnn.AveragePool1D(3, padding=1, count_include_pad=True), (2, 6)),
    (xcnn.GlobalMaxPool1D(), (2, 6)),
    (xcnn.GlobalAveragePool1D(), (2, 6)),
    (xcnn.Conv1DTranspose(2, 3), (2, 6)),
    (xcnn.StandardizedConv2D(2, 3, padding="same"), (2, 4, 5)),
]


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(("layer", "shape"), WINDOWS, ids=[type(layer).__name__ for layer, _ in WINDOWS])
def test_windows_need_cells(backend, layer, shape, fuse):
    """As PyTorch's convolutions and adaptive poolings do, which raise too. Only the batch may be empty."""
    drawn, _ = layer.init(random.generator(0), shape)
    weights = {"it": tree.map(lambda w: backend.asarray(w, "float32"), drawn)}
    net = xcnn.Sequential(it=layer)
    net = backend.rewrite(net) if fuse and backend.name != "jax" else net
    for axis in range(len(shape)):
        empty = tuple(0 if n == axis else size for n, size in enumerate(shape))
        with pytest.raises(ShapeError, match=r"X101.*at least one channel"):
            layer.init(random.generator(0), empty)
        with pytest.raises(ShapeError, match="X101"):
            net(weights, backend.asarray(np.zeros((2, *empty)), "float32"), Run(backend, train=True))


EMPTY = [
    (layer, tuple(0 if n == axis else size for n, size in enumerate(shape)))
    for layer, shape in CASES
    if not any(
        name in repr(layer)
        for name in ("Conv", "Crop", "Graph", "Multiply", "Pool", "Residual", "Reshape", "Resize", "Slice")
    )
    and not repr(layer).startswith("Padding")  # which copies cells: there are none
    for axis in range(len(shape))
]


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_other_layers_take_axes_of_size_0(name):
    """As PyTorch does: nothing comes of nothing, without a warning; the weights' gradients are zero."""
    backend = xcnn.backend(name)
    for layer, shape in EMPTY:
        drawn, output = layer.init(random.generator(0), shape)
        weights = tree.map(lambda w: backend.asarray(w, "float64"), drawn)
        with backend.active():
            y, backward = layer(weights, backend.asarray(np.zeros((2, *shape))), Run(backend, train=True))
            dx, grads = backward(backend.asarray(np.ones((2, *output))))
        assert (tuple(y.shape), tuple(dx.shape)) == ((2, *output), (2, *shape)), layer
        assert all(np.all(np.isfinite(backend.to_numpy(g))) for g in tree.leaves(grads) if not isinstance(g, Next))


def test_an_empty_softmax_is_pytorchs():
    torch = pytest.importorskip("torch")
    for shape, axis in (((2, 0), 1), ((2, 3, 0), 2), ((2, 0, 3), 2), ((0, 3), 1)):
        expected = torch.softmax(torch.zeros(shape), axis)
        y, _ = xcnn.Softmax(axis)({}, np.zeros(shape), Run(xcnn.backend("numpy")))
        assert y.shape == tuple(expected.shape)
