"""Writes the conformance vectors of `tests/vectors`, or checks that they are up to date.

python -m tools.make_vectors [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tools.make_vectors.files import all_files, differences

FOLDER = Path(__file__).parents[2] / "tests" / "vectors"


def write(names: Sequence[str], files: Mapping[str, bytes]) -> None:
    """Write these of the ``files``, and remove those that are none of them."""
    for name in names:
        path = FOLDER / name
        if name in files:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(files[name])
        else:
            path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the conformance vectors.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if they are not up to date"
    )
    check = parser.parse_args().check
    torch.set_num_threads(1)  # the networks are tiny
    files = all_files()
    changed = differences(files, FOLDER)
    for name in changed:
        print(f"{name} {'is not up to date' if check else 'is brought up to date'}")
    if not check:
        write(changed, files)
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
