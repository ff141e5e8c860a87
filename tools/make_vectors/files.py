"""All files of `tests/vectors`, on which the two decoders agree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tools import reference_decoder as reference
from tools.make_vectors.decoders import (
    by_nervcodec,
    by_reference_decoder,
    refusal_by_nervcodec,
    refusal_by_reference_decoder,
)
from tools.make_vectors.invalid import Invalid, invalid_vectors
from tools.make_vectors.valid import Valid, valid_vectors

MARGIN = 1e-8
"""Least distance of 255 v, at 8 bits, from where it is rounded otherwise, far above what float64
errs by."""


def to_json(value: dict[str, Any]) -> bytes:
    return f"{json.dumps(value, indent=2)}\n".encode()


def check_pictures(name: str, valid: Valid, file: reference.File) -> None:
    """Samples must not hang on a rounding, nor, mostly, be equal or saturated."""
    samples, largest = [], 2**file.header.bit_depth - 1
    for segment in file.segments:
        network = reference.Network(segment)
        for n in range(segment.frames):
            with np.errstate(over="ignore"):
                exact = largest * network.frame(n)
            assert abs(exact % 1 - 0.5).min() > MARGIN, name
            samples.append(exact / largest)
    values = np.concatenate([each.ravel() for each in samples])
    saturated = np.mean((values < 1 / 255) | (values > 254 / 255))
    assert valid.plain or (values.std() > 0.05 and saturated < 0.2), (name, values.std(), saturated)


def valid_file(name: str, valid: Valid) -> tuple[bytes, bytes]:
    """The file and its JSON."""
    segments = valid.segments()
    data, hashes = valid.file(segments), valid.hashes
    check_pictures(name, valid, reference.parse(data))
    if hashes is None:
        found = by_reference_decoder(data)["segments"]
        hashes = b"".join(bytes.fromhex(each["frames_sha256"])[:8] for each in found)
    data = valid.file(segments, hashes)
    described = by_reference_decoder(data)
    assert described == by_nervcodec(data), name
    return data, to_json({"about": valid.about, **described})


def check_refusal(name: str, vector: Invalid) -> dict[str, str]:
    """The vector's entry in the index."""
    kind = "unsupported" if vector.unsupported else "invalid"
    assert refusal_by_reference_decoder(vector.data) == kind, name
    assert refusal_by_nervcodec(vector.data) == (kind, vector.stage), name
    return {
        "error": kind,
        "stage": vector.stage,
        "section": vector.section,
        "reason": vector.reason,
    }


def all_files() -> dict[str, bytes]:
    """Contents by name below the folder of the vectors."""
    files: dict[str, bytes] = {}
    for name, valid in valid_vectors().items():
        files[f"valid/{name}.hfsv"], files[f"valid/{name}.json"] = valid_file(name, valid)
    index = {}
    for name, vector in invalid_vectors().items():
        files[f"invalid/{name}.hfsv"] = vector.data
        index[name] = check_refusal(name, vector)
    files["invalid/index.json"] = to_json(index)
    return files


def differences(files: Mapping[str, bytes], folder: Path) -> list[str]:
    """Names below ``folder`` of files that are missing, different or too many."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for part in ("valid", "invalid")
        for path in (folder / part).rglob("*")
        if path.is_file()
    }
    names = files.keys() | found.keys()
    return sorted(name for name in names if files.get(name) != found.get(name))
