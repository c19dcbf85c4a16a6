"""How many lines a training prints."""

import pytest

from xcnn.training.progress import LINES, Live, Plain


@pytest.mark.parametrize("kind", [Plain, Live])
@pytest.mark.parametrize(("epochs", "ended", "told"), [(40, 40, 40), (400, 400, 50), (130, 130, 44), (400, 13, 2)])
def test_of_very_many_epochs_some_are_told_and_always_the_last(kind, epochs, ended, told, capsys):
    shown = kind()
    for epoch in range(1, ended + 1):
        shown.start(epoch, epochs, 10)
        shown.finish({"epoch": epoch, "loss": 1 / epoch})
    shown.close()
    shown.close()
    header, *lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "epoch" in header
    assert len(lines) == told <= LINES
    assert int(lines[-1].split()[0]) == ended
