"""What tests of the command line share: a folder of their own, and a way to run it."""

import sys

import pytest

from xcnn import cli


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """Where the test runs, without variables that name a backend or data."""
    monkeypatch.chdir(tmp_path)
    for name in ("XCNN_BACKEND", "XCNN_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["xcnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run
