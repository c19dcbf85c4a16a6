"""The two wheels that a GPU machine without a network needs beside CuPy or PyTorch: xcnn's and array-api-compat's.

    python benchmarks/carry.py FOLDER
    there: python -m pip install --no-index --no-deps --target SITE FOLDER/*.whl

They are built and fetched here, and hold for Linux on x86-64 and any Python from 3.11 on. What the machine has no pooch
for, the download of data sets, it has no network for either.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Make the wheels, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the wheels are put")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("xcnn-*.whl"), *folder.glob("array_api_compat-*.whl")):
        old.unlink()  # two versions of one package stop the installation of both
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), "array-api-compat>=1.11")
    for wheel in sorted(folder.glob("*.whl")):
        print(f"{wheel} {wheel.stat().st_size:,} bytes")


def pip(*arguments: str) -> None:
    """Run pip of this Python."""
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True)


if __name__ == "__main__":
    main()
