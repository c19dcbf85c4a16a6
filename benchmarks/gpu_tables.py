"""Tables of what benchmarks/gpu.py found, in Markdown; of a run that was ended early too. It needs no GPU.

python benchmarks/gpu_tables.py FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from on_gpu.tables import report, summary


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="that gpu.py was given as --out")
    print(summary(report(parser.parse_args().folder / "gpu.jsonl")))


if __name__ == "__main__":
    main()
