"""cublasLt's products: against a stub in its place, which multiplies; and, where it is installed, by itself."""

import ctypes
import gc
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from cublaslt_stub import Stub
from cudnn_stub import driver
from library_stub import aligned
from xcnn_cupy.cublaslt import Algorithms, CublasLtError, Handle, Library, Product, constants, load
from xcnn_cupy.cublaslt.algorithm import Matrices, allowed_reductions
from xcnn_cupy.cublaslt.choices import Chosen, read, written
from xcnn_cupy.cublaslt.constants import MatmulDesc, Preference, Reduction
from xcnn_cupy.cublaslt.descriptors import CTYPES, Descriptor
from xcnn_cupy.cublaslt.library import SIGNATURES
from xcnn_cupy.shared_library import in_wheels

from xcnn.errors import BackendError, BackendUnavailable, OptionError, ShapeError

FMA, HMMA, HALF_SUMS, INPUT_TF32 = 1, 2, 1 << 8, 4 << 16
ROUNDING = {"float64": 1e-13, "float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}


@pytest.fixture
def stub():
    """A stub that proposes one algorithm; after the test no rule may be broken, and nothing be left over."""
    made = Stub()
    yield made
    check_over(made)


def check_over(stub):
    gc.collect()
    assert stub.broken == []
    assert stub.handles == set()
    assert {key: value for key, value in stub.made.items() if value} == {}


def algorithms_on(stub, **options):
    return Algorithms(Handle(Library(stub)), **options)


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("dtype", ROUNDING)
def test_a_product_is_the_one_of_numpy(stub, rng, dtype, turned):
    m, k, n = 3, 7, 5
    product = Product(m, k, n, *turned, dtype=dtype)
    arrays = {
        "a": aligned((k, m) if turned[0] else (m, k), dtype),
        "b": aligned((n, k) if turned[1] else (k, n), dtype),
        "c": aligned((m, n), dtype),
    }
    for role in "ab":
        arrays[role][...] = rng.standard_normal(arrays[role].shape)
    a, b = (arrays[role].astype("float64") for role in "ab")
    expected = (a.T if turned[0] else a) @ (b.T if turned[1] else b)
    algorithms_on(stub).answer(product).execute(5, {role: x.ctypes.data for role, x in arrays.items()})
    assert stub.executed == [(7, None, 5)]
    np.testing.assert_allclose(arrays["c"].astype("float64"), expected, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


def test_what_cublaslt_is_told(stub):
    product = Product(64, 9216, 128, b_turned=True, math="tf32", workspace=1000)
    found = algorithms_on(stub).answer(product)
    operation, first, second, *results = (stub.made[address] for address in found.matrices.addresses)
    assert operation["compute"] == constants.ComputeType.COMPUTE_32F_FAST_TF32
    assert (operation[MatmulDesc.TRANSA], operation[MatmulDesc.TRANSB]) == (1, 0)
    assert (first["shape"], first["step"]) == ((9216, 128), 9216)
    assert (second["shape"], second["step"]) == ((9216, 64), 9216)
    assert {one["shape"] for one in results} == {(128, 64)}
    (asked,) = stub.preferences
    assert asked == {
        Preference.MAX_WORKSPACE_BYTES: 1000,
        Preference.REDUCTION_SCHEME_MASK: 7,
        **{Preference[f"MIN_ALIGNMENT_{matrix}_BYTES"]: 16 for matrix in "ABCD"},
    }


def test_halves_are_added_up_in_float32_and_bits_are_the_same_where_that_is_asked():
    halves = [Product(2, 2, 2, dtype=dtype) for dtype in ("float16", "bfloat16")]
    assert {allowed_reductions(product) for product in halves} == {Reduction.COMPUTE_TYPE}
    assert allowed_reductions(Product(2, 2, 2, deterministic=True)) == Reduction.COMPUTE_TYPE | Reduction.OUTPUT_TYPE


@pytest.fixture
def choosy():
    """A stub with an algorithm for each reason to refuse one, and three that fit: two cut sums into parts."""
    made = Stub(
        (1, 1, 0, HMMA, 0),
        (2, 1, 0, FMA | INPUT_TF32, 0),
        (3, 1, 0, FMA | HALF_SUMS, 0),
        (4, 8, 1, FMA, 64),
        (5, 1, 0, FMA, 0),
        (6, 16, 2, FMA, 4096),
    )
    yield made
    check_over(made)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4, 5, 6]),
        ({"math": "tf32"}, [1, 2, 4, 5, 6]),
        ({"dtype": "bfloat16"}, [1, 2, 5, 6]),
        ({"deterministic": True}, [5, 6]),
        ({"workspace": 100}, [4, 5]),
    ],
    ids=str,
)
def test_algorithms_are_left_out_by_what_they_do_to_the_numbers(choosy, options, expected):
    found = list(algorithms_on(choosy).candidates(Product(64, 9216, 128, **options)))
    assert [one.engine_number for one in found] == expected
    assert {one.engine_number: one.parts for one in found if one.parts > 1} == {
        number: parts for number, parts in ((4, 8), (6, 16)) if number in expected
    }


def test_no_algorithm_is_an_error_with_every_reason(choosy, caplog):
    del choosy.algorithms[4], choosy.algorithms[5], choosy.algorithms[6]
    algorithms = algorithms_on(choosy)
    assert not algorithms.answers(Product(2, 2, 2))
    with pytest.raises(BackendError, match=r"X305.*no algorithm for this product in float32") as caught:
        algorithms.answer(Product(2, 2, 2))
    assert "refused engine 1: it multiplies float32 on tensor cores" in str(caught.value)
    assert "refused engine 2: it rounds float32 to fewer bits" in str(caught.value)
    choosy.algorithms.clear()
    assert not algorithms.answers(Product(3, 2, 2))  # "not supported" is an answer
    assert caplog.text == ""
    choosy.fail["cublasLtMatmulAlgoGetHeuristic"] = 14
    assert not algorithms.answers(Product(4, 2, 2))  # and so is this one, but it is told
    assert "cublasLt could not propose algorithms" in caplog.text


def test_measured_algorithms_are_the_fastest_and_may_lose_to_the_other_way(choosy):
    seconds = {4: 3.0, 5: 2.0, 6: 1.0}
    algorithms = algorithms_on(choosy, measure=lambda one: seconds[one.engine_number])
    product, asked = Product(64, 9216, 128), []

    def compare(found):
        asked.append(found.engine_number)
        return False

    assert algorithms.answer(product).engine_number == 6
    assert [algorithms.taken(product, compare) for _ in range(2)] == [False, False]
    assert asked == [6]


def test_a_workspace_of_its_own_is_passed_on(choosy):
    del choosy.algorithms[4], choosy.algorithms[5]
    arrays = {role: aligned(shape, "float32") for role, shape in (("a", (2, 3)), ("b", (3, 4)), ("c", (2, 4)))}
    arrays["a"][...], arrays["b"][...] = 1, 2
    scratch = aligned((4096,), "float16")
    found = algorithms_on(choosy).answer(Product(2, 3, 4))
    assert found.workspace == 4096
    found.execute(9, {role: x.ctypes.data for role, x in arrays.items()}, scratch.ctypes.data)
    assert choosy.executed == [(6, scratch.ctypes.data, 9)]
    assert (arrays["c"] == 6).all()


def test_a_matrix_that_is_not_aligned_and_sizes_of_none(stub):
    found = algorithms_on(stub).answer(Product(2, 3, 4))
    with pytest.raises(OptionError, match="not aligned to 16 bytes"):
        found.execute(0, {"a": 16, "b": 24, "c": 32})
    with pytest.raises(ShapeError, match="X101"):
        Product(2, 0, 4)
    with pytest.raises(OptionError, match="dtype must be one of 'float32'"):
        Product(2, 3, 4, dtype="int8")


def test_a_failure_while_running_names_algorithm_and_product(stub):
    found = algorithms_on(stub).answer(Product(2, 3, 4))
    stub.fail["cublasLtMatmul"] = 13
    with pytest.raises(CublasLtError) as caught:
        found.execute(0, {"a": 16, "b": 16, "c": 16})
    assert str(caught.value).startswith("[X306] cublasLt could not run algorithm 7.\n  status 13, STATUS_13")
    assert "product of float32 in float32; a 2,3; b 3,4" in str(caught.value)


# The file.


def test_choices_last_from_run_to_run(choosy, tmp_path, caplog):
    path, product = tmp_path / "plans.json", Product(64, 9216, 128)
    algorithms = algorithms_on(choosy, measure=lambda one: -one.engine_number)
    assert algorithms.answer(product).engine_number == 6
    assert algorithms.taken(product, lambda found: True)
    content = {"format": 1, "cudnn": 1, "device": "a GPU", "plans": {}, "products": written(130200, algorithms.chosen)}
    path.write_text(json.dumps(content))
    assert read(path, 130300, "a GPU") == {}
    assert read(tmp_path / "none.json", 130200, "a GPU") == {}

    def never(one):
        raise AssertionError("measured again")

    again = algorithms_on(choosy, measure=never)
    again.take(read(path, 130200, "a GPU"))
    assert again.answer(product).choice == algorithms.answer(product).choice
    assert again.taken(product, never)
    choosy.algorithms.pop(6)
    anew = algorithms_on(choosy)
    anew.take(read(path, 130200, "a GPU"))
    with caplog.at_level(logging.WARNING, "xcnn"):
        assert anew.answer(product).engine_number == 4
    assert "is chosen anew, for the product of float32" in caplog.text
    for broken in ({"algorithm": "00", "measured": True, "taken": None}, {"algorithm": "0" * 128, "measured": 1}, 3):
        content["products"]["algorithms"] = {"a": broken}
        path.write_text(json.dumps(content))
        with pytest.raises(BackendError, match="X307"):
            read(path, 130200, "a GPU")


def test_a_guess_from_a_file_is_measured(choosy):
    product, guessing = Product(64, 9216, 128), algorithms_on(choosy)
    assert guessing.answer(product).engine_number == 4
    measuring = algorithms_on(choosy, measure=lambda one: -one.engine_number)
    measuring.take(guessing.chosen)
    assert measuring.answer(product).engine_number == 6
    assert measuring.chosen[product.key] == Chosen(measuring.answer(product).choice, measured=True)


# The library itself.


@pytest.fixture(scope="module")
def installed():
    """cublasLt of CUDA 13."""
    if missing := driver():
        pytest.skip(missing)
    try:
        return load(13)
    except BackendUnavailable as error:
        pytest.skip(error.summary)


def test_a_missing_cublaslt_says_how_to_install_it():
    with pytest.raises(
        BackendUnavailable, match=r"cublasLt of CUDA 99 is not installed: there is no libcublasLt.so.99"
    ):
        load(99)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_cublaslt_itself_takes_what_it_is_told(installed, dtype, monkeypatch):
    """Descriptors need no GPU: what was set is read again. A handle needs one."""
    product = Product(64, 9216, 128, a_turned=True, dtype=dtype)
    matrices, preference = Matrices.of(installed, product), Descriptor(installed, "MatmulPreference")
    preference.set(Preference.MAX_WORKSPACE_BYTES, 2**25)
    for descriptor, attribute, expected in (
        (matrices.operation, MatmulDesc.TRANSA, 0),
        (matrices.operation, MatmulDesc.TRANSB, 1),
        (preference, Preference.MAX_WORKSPACE_BYTES, 2**25),
    ):
        cell, size = CTYPES[attribute](), ctypes.c_size_t()
        function = getattr(installed.functions, f"cublasLt{descriptor.kind}GetAttribute")
        status = function(
            ctypes.c_void_p(descriptor.address), int(attribute), ctypes.byref(cell),
            ctypes.c_size_t(ctypes.sizeof(cell)), ctypes.byref(size),
        )  # fmt: skip
        assert (status, cell.value, size.value) == (0, expected, ctypes.sizeof(cell))
    monkeypatch.setitem(CTYPES, Preference.MAX_WORKSPACE_BYTES, ctypes.c_uint16)
    with pytest.raises(CublasLtError, match="could not set MAX_WORKSPACE_BYTES of a MatmulPreference"):
        preference.set(Preference.MAX_WORKSPACE_BYTES, 1)


# Its header.

PREFIXES = {
    "DataType": "CUDA_{}",
    "ComputeType": "CUBLAS_{}",
    "Operation": "CUBLAS_{}",
    "MatmulDesc": "CUBLASLT_MATMUL_DESC_{}",
    "Preference": "CUBLASLT_MATMUL_PREF_{}",
    "AlgoCap": "CUBLASLT_ALGO_CAP_{}",
    "AlgoConfig": "CUBLASLT_ALGO_CONFIG_{}",
    "Reduction": "CUBLASLT_REDUCTION_SCHEME_{}",
    "Numerical": "CUBLASLT_NUMERICAL_IMPL_FLAGS_{}",
}


@pytest.fixture(scope="module")
def header():
    """CublasLt's headers, without their comments."""
    for place in in_wheels("cu13", "libcublasLt.so.13"):
        folder = Path(place).parent.parent / "include"
        names = ("cublasLt.h", "cublas_api.h", "library_types.h")
        if all((folder / name).is_file() for name in names):
            text = "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
            return re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    return pytest.skip("cublasLt.h is not installed")


def test_constants_are_the_headers(header):
    values = {name: int(value, 0) for name, value in re.findall(r"\b(CU\w+)\s*=\s*(0x[\da-f]+|\d+)\b", header)}
    for name, value, shift in re.findall(r"#define (CUBLASLT_\w+) \((0x[\da-f]+)ull << (\d+)\)", header):
        values[name] = int(value, 16) << int(shift)
    for kind, pattern in PREFIXES.items():
        for member in getattr(constants, kind):
            assert values[pattern.format(member.name)] == member, member
    assert values["CUBLAS_STATUS_NOT_SUPPORTED"] == constants.NOT_SUPPORTED


def test_signatures_are_the_headers(header):
    for name, (_, arguments) in SIGNATURES.items():
        found = re.search(rf"\b{name}\s*\(([^)]*)\)\s*;", header)
        given = [] if found[1].strip() in ("", "void") else found[1].split(",")
        assert len(given) == len(arguments), name
        for text, kind in zip(given, arguments, strict=True):
            pointer = re.search(r"[*\[]|(Desc|Layout|Preference|Handle|Stream)_t ", text)
            expected = "P" if pointer else "l" if re.search(r"\bint64_t", text) else "i"
            expected = "L" if not pointer and re.search(r"size_t|uint64_t", text) else expected
            got = {"z": "P", "P": "P", "q": "l", "Q": "L"}.get(kind._type_, kind._type_)
            assert got == expected, (name, text)
