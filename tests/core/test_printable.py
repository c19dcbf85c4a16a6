"""What others wrote is shown with its control characters escaped, in errors and wherever names are printed."""

import unicodedata

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st

import xcnn
from xcnn import errors
from xcnn.data.dataset import Dataset, Samples
from xcnn.errors import ShapeError, XcnnError, printable


def test_every_character_that_commands_a_terminal_or_hides_is_escaped():
    for code in range(0x110000):
        name = chr(code)
        hidden = unicodedata.category(name) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        shown = printable(f"a{name}b")
        assert not hidden or (shown.isascii() and shown.startswith("a\\") and shown.endswith("b")), hex(code)


@pytest.mark.parametrize("text", ["", "a b", "T-shirt/top", "çà", "猫", "\\x1b is four characters", "🐈"])
def test_what_can_be_seen_stays(text):
    assert printable(text) == text


@settings(deadline=None, max_examples=draws(50))
@given(st.text(), st.text(), st.text(), st.text())
def test_errors_hold_their_own_lines_only(message, detail, hint, name):
    error = ShapeError("X101", message, detail, hint=hint, layer=xcnn.ReLU()).inside(name)
    lines = str(error).split("\n")
    assert len(lines) == 2 + bool(hint)
    assert all(line.isprintable() for line in (*lines, error.summary))


def test_what_is_noted_later_is_escaped_too():
    error = XcnnError("X101", "first")
    error.message, error.details, error.hint = "a\x1b[2J", ("b\nc",), "d\u202e"
    assert str(error) == "[X101] a\\x1b[2J\n  b\\nc\n  hint: d\\u202e"


def test_the_names_of_classes_are_shown_escaped(rng):
    part = Samples(rng.random((2, 1, 2, 2)), rng.integers(0, 1, 2))
    assert "a\\x1b[2J, b" in repr(Dataset(part, part, ("a\x1b[2J", "b")))


def test_of_what_other_libraries_say_too():
    assert printable(errors.told_by(OSError("a\x07\n\nb"))) == "OSError: a\\x07 b"
