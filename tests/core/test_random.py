"""The random generator: published vectors, the same bits on every backend, and no visible pattern."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xcnn_host import random as fast

from xcnn.core import random

ONES = 0xFFFFFFFF
VECTORS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]
"""Key, counter and result of Threefry-2x32 with 20 rounds, from Random123's known answer tests."""

KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple)


@pytest.mark.parametrize(("key", "counter", "expected"), VECTORS)
def test_known_answers(key, counter, expected):
    assert random.threefry2x32(key, *counter) == expected


@pytest.mark.parametrize(("key", "counter", "expected"), VECTORS)
def test_known_answers_for_arrays(key, counter, expected, backend):
    words = [backend.asarray(np.full((2, 3), word, dtype="int64")) for word in counter]
    for word, answer in zip(random.threefry2x32(key, *words), expected, strict=True):
        assert np.array_equal(backend.to_numpy(word), np.full((2, 3), answer))


@pytest.mark.parametrize(("key", "counter", "expected"), VECTORS)
def test_known_answers_in_place(key, counter, expected):
    x0, x1 = (np.full(3, word, dtype="uint32") for word in counter)
    random.encrypt(key, x0, x1)
    assert [set(x0.tolist()), set(x1.tolist())] == [{word} for word in expected]


def test_bits_are_the_words_of_counters():
    words = [random.threefry2x32(random.fold((3, 1)), 0, n) for n in range(4)]
    expected = [first for first, _ in words] + [second for _, second in words]
    assert random.bits(np, None, (3, 1), (7,)).tolist() == expected[:7]
    assert random.bits(np, None, (3, 1), (4, 2)).ravel().tolist() == expected


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (3, 0, 2), (4, 3, 5)])
@pytest.mark.parametrize("key", [(), (0,), (7, 2**63, 12)])
def test_same_bits_on_every_backend(backend, key, shape):
    bits = backend.to_numpy(backend.random_bits(key, shape))
    expected = random.bits(np, None, key, shape)
    assert bits.shape == shape
    assert bits.dtype == expected.dtype == np.int64
    assert np.array_equal(bits, expected)


@given(KEYS, st.integers(0, 70))
def test_fast_bits_are_the_plain_ones(key, size):
    assert np.array_equal(fast.bits(key, (size,)), random.bits(np, None, key, (size,)))


def test_fast_bits_of_many_chunks(monkeypatch):
    monkeypatch.setattr(fast, "CHUNK", 7)
    assert np.array_equal(fast.bits((5,), (101,)), random.bits(np, None, (5,), (101,)))


def test_counters_beyond_32_bits(monkeypatch):
    """The high word of the counter counts too: the bits past 2^32 differ from those at the start."""
    high = random.threefry2x32(random.fold((5,)), 1, 3)
    assert high != random.threefry2x32(random.fold((5,)), 0, 3)
    x0, x1 = np.array([1], dtype="uint32"), np.array([3], dtype="uint32")
    fast.encrypt(random.fold((5,)), x0, x1)
    assert (int(x0[0]), int(x1[0])) == high


@given(st.lists(KEYS, min_size=2, max_size=2, unique=True))
def test_keys_differ(keys):
    one, other = keys
    assert random.fold(one) != random.fold(other)


def test_a_path_is_not_its_sum():
    folded = {random.fold(key) for key in [(), (0,), (0, 0), (0, 0, 0), (1,), (0, 1), (1, 0), (2**32,), (2**32, 0)]}
    assert len(folded) == 9


def test_bits_look_uniform():
    """Mean, variance, every bit, and the correlation of neighbours: each within five standard deviations."""
    size = 2**17
    drawn = random.bits(np, None, (2024,), (size,))
    assert drawn.min() >= 0
    assert drawn.max() <= ONES
    uniform = drawn / 2.0**32
    assert abs(uniform.mean() - 1 / 2) < 5 / np.sqrt(12 * size)
    assert abs(uniform.var() - 1 / 12) < 5 / np.sqrt(180 * size)
    ones = (drawn[:, None] >> np.arange(32) & 1).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 5 / np.sqrt(4 * size)
    for lag in (1, 2, size // 2):
        together = np.mean((uniform[lag:] - 0.5) * (uniform[:-lag] - 0.5)) * 12
        assert abs(together) < 5 / np.sqrt(size - lag)


def test_generator_is_a_function_of_its_key():
    draws = [random.generator(*key).random(4).tolist() for key in [(0,), (0,), (1,), (0, 1)]]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 3
