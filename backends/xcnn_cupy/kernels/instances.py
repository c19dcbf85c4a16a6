"""Every kernel, for every choice of types that it is launched with: what is compiled when its file is first used."""

from xcnn_cupy.kernels import Kernel

FLOATS = ("float32", "float64", "float16", "bfloat16")
PACKS = {"float32": 4, "float64": 1, "float16": 8, "bfloat16": 8}
"""How many cells of a type a thread reads at once, 16 bytes; float64, which is there for checks, goes cell by cell."""
PACKED = [(kind, pack) for kind in FLOATS for pack in sorted({1, PACKS[kind]})]
"""With those for arrays that are not cut that way."""

INSTANCES = (
    *(
        Kernel("batches", "gather_batch", images, dtype, targets)
        for images, dtype, target_types in (
            ("float32", "float32", ("int64", "float32")),
            ("float32", "float16", ("int64", "float32")),
            ("float32", "bfloat16", ("int64", "float32")),
            ("float16", "float16", ("int64", "float32")),
            ("bfloat16", "bfloat16", ("int64", "float32")),
            ("float64", "float64", ("int64", "float64")),
        )
        for targets in target_types
    ),
    *(
        Kernel("channels", name, *packed, f)
        for packed in PACKED
        for name, functions in (
            ("activate", ("Identity", "ReLU", "Sigmoid", "Tanh")),
            ("activation_backward", ("Identity", "ReLU", "Sigmoid", "Tanh")),
            ("add", ("Identity", "ReLU")),
        )
        for f in functions
    ),
    *(
        Kernel("channels", name, *packed)
        for packed in PACKED
        for name in ("moments", "normalise", "normalise_sums", "normalise_backward")
    ),
    *(Kernel("channels", name, kind) for kind in ("float32", "float64") for name in ("finish_moments", "inverses")),
    *(Kernel("groups", name, kind) for kind in FLOATS for name in ("standardise", "standardise_backward")),
    *(Kernel("groups", "feature_sums", *packed) for packed in PACKED),
    *(Kernel("layout", "convert", source, target) for source in FLOATS for target in FLOATS),
    Kernel("layout", "convert", "int64", "int64"),
    *(
        Kernel("loss", "rows", kind, loss)
        for kind in FLOATS
        for loss in ("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "CrossEntropy")
    ),
    *(Kernel("loss", "mean", kind) for kind in ("float32", "float64")),
    *(Kernel("lowering", name, kind) for kind in FLOATS for name in ("lay_out", "fold")),
    *(
        Kernel("pooling", name, *packed)
        for packed in PACKED
        for name in ("sum_pool", "sum_pool_adjoint", "mean_of_rows", "mean_of_columns", "mean_adjoint")
    ),
    *(
        Kernel("pooling", name, *packed, taps)
        for packed in PACKED
        for taps in ("uint8", "uint32")
        if taps == "uint8" or packed[1] == 1
        for name in ("max_pool", "max_pool_adjoint")
    ),
    *(Kernel("progress", "finish", weights) for weights in ("float32", "float64")),
    Kernel("random", "random_bits"),
    *(Kernel("random", "dropped", kind) for kind in FLOATS),
    *(Kernel("update", "squares", gradients) for gradients in FLOATS),
    *(
        Kernel("update", "change", weights, gradients, rule)
        for weights, gradients in (
            ("float32", "float32"),
            ("float32", "float16"),
            ("float32", "bfloat16"),
            ("float64", "float64"),
        )
        for rule in ("SGD", "Adam", "RMSprop")
    ),
)


def instances(file: str) -> tuple[Kernel, ...]:
    """Those of one file."""
    return tuple(kernel for kernel in INSTANCES if kernel.file == file)
