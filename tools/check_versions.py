"""Checks that symbols are the same with every supported version of numpy, constriction and msgpack.

    python -m tools.check_versions [FILE.hfsv ...]

makes a virtual environment for each of :data:`COMBINATIONS` that can be installed on this Python
(pip fetches the packages), decodes the files there (by default the conformance vectors), codes
their segments again and prints what came out as JSON lines. Exit status 1 tells that something
differs from the environment that runs this program, or that nothing could be installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nervcodec.bitstream import entropy
from nervcodec.bitstream.segment import encode_segment
from nervcodec.bitstream.stream import StreamReader, encode_meta, open_stream
from nervcodec.bitstream.tables import ALPHABET, CENTRE, all_tables, tables_digest
from nervcodec.bitstream.tensors import Limits

ROOT = Path(__file__).parents[1]
VECTORS = ROOT / "tests" / "vectors" / "valid"
PACKAGES = ("numpy", "constriction", "msgpack")

COMBINATIONS = (
    ("1.26.0", "0.4.2", "1.0.8"),
    ("1.26.4", "0.5.0", "1.1.0"),
    ("2.0.2", "0.4.2", "1.0.8"),
    ("2.1.3", "0.5.0", "1.1.2"),
    ("2.2.6", "0.4.2", "1.2.0"),
    ("2.3.5", "0.5.0", "1.2.4"),
    ("2.4.6", "0.4.2", "1.0.8"),
    ("2.4.6", "0.5.0", "1.2.4"),
)
"""Versions of :data:`PACKAGES`: the oldest, the newest, and the steps between."""

SYMBOLS_A_TABLE = 4096


def coder_digest() -> str:
    """SHA-256 of the words for the same symbols by every frozen table and by explicit ones.

    The symbols come from SHAKE-256, because numpy promises no random numbers across versions.
    """
    stream = hashlib.shake_256(b"nervcodec").digest(SYMBOLS_A_TABLE * (len(all_tables()) + 2))
    symbols = np.frombuffer(stream, dtype=np.uint8).reshape(-1, SYMBOLS_A_TABLE)
    tables: list[entropy.Table] = [
        entropy.FrozenTable(number, CENTRE) for number in range(len(all_tables()))
    ]
    tables.append(entropy.ExplicitTable(0, tuple(range(1, ALPHABET + 1))))
    tables.append(entropy.ExplicitTable(0, tuple(1 + (n % 5) ** 9 for n in range(ALPHABET))))
    words = entropy.encode(list(zip(symbols, tables, strict=True)))
    decoded = entropy.decode(words, [(SYMBOLS_A_TABLE, table) for table in tables])
    assert np.array_equal(np.stack(decoded), symbols)
    return hashlib.sha256(words.astype("<u4").tobytes()).hexdigest()


def describe(path: Path) -> dict[str, Any]:
    """What one file's symbols and META are here, and what coding them again gives."""
    with open_stream(path) as stream:
        reader = StreamReader(stream, Limits())
        coded = hashlib.sha256(encode_meta(reader.meta))
        as_stored = True
        checksums = []
        for index, place in enumerate(reader.segments):
            segment = reader.segment(index)
            payload, _ = encode_segment(segment)
            checksums.append(f"{segment.symbols_crc():08x}")
            coded.update(payload)
            as_stored &= payload == reader.container.payload(place.chunk)
        return {
            "symbols_crc": checksums,
            "coded_again": coded.hexdigest(),
            "as_stored": as_stored,
        }


def findings(files: Sequence[Path]) -> dict[str, Any]:
    """The versions here, and all that must be the same with every version."""
    return {
        **{name: version(name) for name in PACKAGES},
        "tables": tables_digest(),
        "coder": coder_digest(),
        "files": {path.name: describe(path) for path in files},
    }


def _install(python: Path, wanted: dict[str, str]) -> str | None:
    """Install the versions where ``python`` is; the reason where that fails."""
    requirements = [f"{name}=={number}" for name, number in wanted.items()]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    result = subprocess.run(
        [*pip, "--only-binary", ":all:", "--disable-pip-version-check", *requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if result.returncode == 0 else result.stderr.strip().splitlines()[-1]


def try_combination(wanted: dict[str, str], files: Sequence[Path]) -> dict[str, Any]:
    """The findings in an environment of its own, or under ``skipped`` or ``failed`` why not."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder)
        python = Path(folder) / "bin" / "python"
        reason = _install(python, wanted)
        if reason is not None:
            return {"skipped": reason}
        result = subprocess.run(
            [python, "-m", "tools.check_versions", "--here", *map(str, files)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            return {"failed": (result.stderr.strip().splitlines() or ["no message"])[-1]}
        found: dict[str, Any] = json.loads(result.stdout)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--here", action="store_true", help="try this environment only")
    arguments = parser.parse_args()
    files = [path.resolve() for path in arguments.files] or sorted(VECTORS.glob("*.hfsv"))
    expected = findings(files)
    if arguments.here:
        print(json.dumps(expected))
        return 0
    print(json.dumps(expected), flush=True)
    tried, same = 0, True
    for numbers in COMBINATIONS:
        wanted = dict(zip(PACKAGES, numbers, strict=True))
        found = try_combination(wanted, files)
        if "skipped" not in found:
            tried += 1
            found["same"] = found == expected | wanted
            same &= found["same"]
        print(json.dumps(wanted | found), flush=True)
    return 0 if same and tried else 1


if __name__ == "__main__":
    sys.exit(main())
