"""How many lines a training prints."""

import pytest

from xcnn.training.progress import Live, Plain


@pytest.mark.parametrize("kind", [Plain, Live])
@pytest.mark.parametrize(("epochs", "ended"), [(3, 3), (400, 400), (400, 13)])
def test_each_epoch_has_one_row_and_columns_are_named_once(kind, epochs, ended, capsys):
    shown = kind()
    for epoch in range(1, ended + 1):
        shown.start(epoch, epochs, 10)
        shown.finish({"epoch": epoch, "loss": 1 / epoch})
    shown.close()
    shown.close()
    header, *lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "epoch" in header
    assert [int(line.split()[0]) for line in lines] == [*range(1, ended + 1)]
