"""What PyInstaller must know to freeze an app that uses xcnn; it asks by the entry point group `pyinstaller40`."""

from pathlib import Path


def hook_dirs() -> list[str]:
    """The folder of hook-xcnn.py."""
    return [str(Path(__file__).parent)]
