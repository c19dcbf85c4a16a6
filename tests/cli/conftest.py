"""What tests of the command line share."""

import pytest


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """Where the test runs, without variables that name a backend or data."""
    monkeypatch.chdir(tmp_path)
    for name in ("XCNN_BACKEND", "XCNN_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
