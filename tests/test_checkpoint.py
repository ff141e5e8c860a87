"""Checkpoints: what comes back, and that damage and foreign files are noticed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest

from nervcodec.errors import CheckpointError
from nervcodec.training.checkpoint import (
    MAGIC,
    Checkpoint,
    CheckpointKeeper,
    TrainedSegment,
    TrainerState,
    checkpoint_key,
    load_checkpoint,
    save_checkpoint,
)

KEY = checkpoint_key(source="abc", epochs=3)
STATE = TrainerState(
    step=7,
    shuffler=bytes(range(20)),
    tensors={
        "weight.a": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        "weight.b": np.array([-0.0, 1e-42, np.inf], dtype=np.float32),
        "exp_avg.scalar": np.array(2.5, dtype=np.float32),
    },
)
FULL = Checkpoint(
    key=KEY,
    segments=(TrainedSegment(b"payload", 30.25, 1.5), TrainedSegment(b"", None, 0.0)),
    state=STATE,
    seconds=12.5,
    output="digest",
)


def same(first: Checkpoint, second: Checkpoint) -> bool:
    if (first.state is None) != (second.state is None):
        return False
    if first.state is not None and second.state is not None:
        a, b = first.state, second.state
        if (a.step, a.shuffler, list(a.tensors)) != (b.step, b.shuffler, list(b.tensors)):
            return False
        for name, values in a.tensors.items():
            other = b.tensors[name]
            if values.shape != other.shape or values.tobytes() != other.tobytes():
                return False
    return replace(first, state=None) == replace(second, state=None)


@pytest.mark.parametrize("checkpoint", [FULL, Checkpoint(KEY), replace(FULL, state=None)])
def test_a_checkpoint_comes_back(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "x.checkpoint"
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path, KEY)
    assert loaded is not None
    assert same(loaded, checkpoint)
    assert list(tmp_path.iterdir()) == [path]


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "x.checkpoint", KEY) is None


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    save_checkpoint(path, FULL)
    data = path.read_bytes()
    damaged = [data[:length] for length in range(len(data))]
    damaged += [
        data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        for bit in range(8 * len(data))
    ]
    damaged.append(data + b"\x00")
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(path, KEY)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"key": KEY},
        b"\xc1",
        {"key": KEY, "segments": 3, "state": None, "seconds": 0.0, "output": ""},
        {"key": KEY, "segments": [[2**40, None, 0.0]], "state": None, "seconds": 0.0, "output": ""},
        {"key": KEY, "segments": [], "state": [], "seconds": 0.0, "output": ""},
        {"key": KEY, "segments": [], "state": None, "seconds": 3, "output": ""},
        *(
            {
                "key": KEY,
                "segments": [],
                "state": {"step": 1, "shuffler": b"", "tensors": {}} | change,
                "seconds": 0.0,
                "output": "",
            }
            for change in (
                {"step": float("inf")},
                {"shuffler": 2**40},
                {"tensors": []},
                {"tensors": {"weight.a": [[-1], bytes(8)]}, "step": None},
                {"tensors": {"weight.a": [[2.0], bytes(8)]}},
                {"tensors": {"weight.a": [[2], 2**40]}},
                {"tensors": {"weight.a": [[2**62, 4], bytes(8)]}},
            )
        ),
    ],
    ids=str,
)
def test_other_contents_with_a_right_hash_are_refused(tmp_path: Path, content: object) -> None:
    body = content if isinstance(content, bytes) else msgpack.packb(content)
    path = tmp_path / "x.checkpoint"
    path.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path, KEY)


def test_tensors_with_too_few_bytes_are_refused(tmp_path: Path) -> None:
    state = {"step": 1, "shuffler": b"", "tensors": {"weight.a": [[2, 2], bytes(12)]}}
    body = msgpack.packb({"key": KEY, "segments": [], "state": state, "seconds": 0.0, "output": ""})
    path = tmp_path / "x.checkpoint"
    path.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path, KEY)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    save_checkpoint(path, FULL)
    with pytest.raises(CheckpointError, match="other settings"):
        load_checkpoint(path, checkpoint_key(source="abc", epochs=4))


def test_a_folder_in_its_place_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="directory"):
        load_checkpoint(tmp_path, KEY)


def test_the_key_depends_on_every_part() -> None:
    assert checkpoint_key(a=1, b=[2, None]) == checkpoint_key(b=[2, None], a=1)
    assert len({checkpoint_key(a=1), checkpoint_key(a=2), checkpoint_key(b=1)}) == 3


# --- the keeper ---------------------------------------------------------------------------------


def keeper(path: Path, interval: float, said: list[str] | None = None) -> CheckpointKeeper:
    return CheckpointKeeper(path, KEY, interval, (said if said is not None else []).append)


def test_the_keeper_writes_when_it_is_time_or_told_to(tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    patient, eager = keeper(path, 1000.0), keeper(path, 1e-9)
    patient.keep(lambda: STATE, 1.0, now=False)
    patient.add(TrainedSegment(b"payload", 30.0, 1.0))
    assert not path.exists()
    patient.keep(lambda: STATE, 2.0, now=True)
    loaded = load_checkpoint(path, KEY)
    assert loaded is not None
    assert (loaded.seconds, len(loaded.segments)) == (2.0, 1)
    eager.keep(lambda: replace(STATE, step=8), 3.0, now=False)
    loaded = load_checkpoint(path, KEY)
    assert loaded is not None
    assert loaded.state is not None
    assert loaded.state.step == 8


def test_without_an_interval_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    none = keeper(path, 0)
    none.keep(lambda: STATE, 1.0, now=True)
    none.interrupted("digest")
    assert not path.exists()


def test_a_finished_segment_replaces_the_state_of_its_training(tmp_path: Path) -> None:
    first = keeper(tmp_path / "x.checkpoint", 1e-9)
    first.keep(lambda: STATE, 1.0, now=True)
    segment = TrainedSegment(b"payload", 30.0, 1.0)
    first.add(segment)
    second = keeper(tmp_path / "x.checkpoint", 1e-9)
    assert second.resume()
    assert (second.state, second.seconds) == (None, 0.0)
    assert (second.segment(0), second.segment(1)) == (segment, None)


def test_the_output_of_an_interrupted_run_is_known_again(tmp_path: Path) -> None:
    output = tmp_path / "out.hfsv"
    output.write_bytes(b"half trained")
    first = keeper(tmp_path / "x.checkpoint", 60.0)
    first.interrupted(hashlib.sha256(b"half trained").hexdigest()[:32])
    second = keeper(tmp_path / "x.checkpoint", 60.0)
    assert second.resume()
    assert second.wrote(output)
    second.keep(lambda: STATE, 1.0, now=True)
    assert second.resume()
    assert second.wrote(output)
    output.write_bytes(b"precious")
    assert not second.wrote(output)
    output.unlink()
    assert not second.wrote(output)


def test_a_checkpoint_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    said: list[str] = []
    lost = keeper(tmp_path / "no" / "x.checkpoint", 1e-9, said)
    for _ in range(3):
        lost.keep(lambda: STATE, 1.0, now=True)
    assert len(said) == 1
    assert "no checkpoint" in said[0]
