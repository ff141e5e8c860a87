"""The conformance vectors: both decoders, and the tool that makes them, against the files."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import nervcodec
from nervcodec.decoder import HfsvFile
from nervcodec.errors import BitstreamError
from nervcodec.info import probe, to_json
from tools import reference_decoder
from tools.make_vectors.decoders import (
    by_nervcodec,
    by_reference_decoder,
    refusal_by_nervcodec,
    refusal_by_reference_decoder,
)
from tools.make_vectors.files import all_files, differences

FOLDER = Path(__file__).parent / "vectors"
VALID = sorted(path.stem for path in (FOLDER / "valid").glob("*.hfsv"))
INDEX: dict[str, dict[str, str]] = json.loads((FOLDER / "invalid" / "index.json").read_bytes())


def path_of(name: str) -> Path:
    return FOLDER / "valid" / f"{name}.hfsv"


@cache
def described(name: str) -> dict[str, Any]:
    """The JSON of a valid vector without what it is about."""
    content = json.loads(path_of(name).with_suffix(".json").read_bytes())
    assert content.pop("about")
    return dict(content)


# --- valid vectors ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALID)
def test_nervcodec_reads_what_the_vector_says(name: str) -> None:
    assert by_nervcodec(path_of(name).read_bytes()) == described(name)


@pytest.mark.parametrize("name", VALID)
def test_the_reference_decoder_reads_what_the_vector_says(name: str) -> None:
    assert by_reference_decoder(path_of(name).read_bytes()) == described(name)


@pytest.mark.parametrize("name", VALID)
def test_fast_frames_are_within_the_bound_of_the_spec(name: str) -> None:
    with HfsvFile(path_of(name), device="cpu") as file:
        for number, segment in enumerate(file.reader.segments):
            for offset, exact in enumerate(file.reference_frames(number)):
                fast = file[segment.first_frame + offset]
                difference = np.abs(fast.astype(int) - exact.astype(int))
                assert difference.max() <= 1
                assert np.count_nonzero(difference) <= max(4, difference.size // 1000)


@pytest.mark.parametrize("name", VALID)
def test_info_describes_every_vector(name: str) -> None:
    info = to_json(probe(path_of(name)))
    assert info["streams"][0]["nb_frames"] == str(described(name)["head"]["frames"])


@pytest.mark.parametrize(
    ("name", "container"), [("audio_mp4", "mp4"), ("audio_matroska", "matroska")]
)
def test_a_player_hears_the_audio(name: str, container: str, tmp_path: Path) -> None:
    assert described(name)["audio"]["container"] == container
    report = nervcodec.decode(path_of(name), tmp_path / "out.mkv")
    assert (report.frames, report.warnings) == (3, ())
    with av.open(str(tmp_path / "out.mkv")) as output:
        samples = sum(frame.samples for frame in output.decode(audio=0))
    assert samples >= 2048


def test_ill_fitting_metadata_does_not_stop_a_player(tmp_path: Path) -> None:
    nervcodec.decode(path_of("meta_ignored"), tmp_path / "out.mkv")


def test_a_wrong_hash_is_found_where_it_is_asked_for() -> None:
    for name in VALID:
        with_hash = described(name)["hash"] is not None
        if with_hash and name != "hash_other":
            nervcodec.verify(path_of(name), frames=True)
    with pytest.raises(BitstreamError, match="do not match HASH"):
        nervcodec.verify(path_of("hash_other"), frames=True)


# --- invalid vectors ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", INDEX)
def test_both_decoders_refuse_the_file(name: str) -> None:
    data = (FOLDER / "invalid" / f"{name}.hfsv").read_bytes()
    expected = INDEX[name]
    assert refusal_by_nervcodec(data) == (expected["error"], expected["stage"])
    assert refusal_by_reference_decoder(data) == expected["error"]


# --- what the vectors cover ---------------------------------------------------------------------


def test_every_frozen_table_occurs() -> None:
    frozen = reference_decoder.frozen_tables()
    found = set()
    for name in VALID:
        for segment in reference_decoder.parse(path_of(name).read_bytes()).segments:
            for tensor in segment.tensors:
                frequencies = [table.frequencies for table in tensor.tables]
                found |= {frozen.index(own) for own in frequencies if own in frozen}
    assert found == set(range(64))


def test_every_number_of_classes_that_differs_occurs() -> None:
    counts = {
        len(tensor.tables) * tensor.predicted
        for name in VALID
        for segment in reference_decoder.parse(path_of(name).read_bytes()).segments
        for tensor in segment.tensors
        if tensor.name in reference_decoder.OF_FRAMES
    }
    assert counts >= {0, 1, 3, 11}


def test_every_kind_of_network_occurs() -> None:
    models = [segment["model"] for name in VALID for segment in described(name)["segments"]]
    blocks = [model["hfscm"] for model in models if model["hfscm"]]
    stages = [stage for model in models for stage in model["stages"]]
    assert {block["attention"] for block in blocks} == {"single", "dense", "grouped"}
    assert {block["extra_convolutions"] for block in blocks} >= {0, 1, 2, 4}
    assert {stage["kernel"] for stage in stages} == {1, 3, 5, 7, 9, 11, 13, 15}
    assert {stage["stride"] for stage in stages} >= {1, 2, 3, 4, 7, 8}
    assert {len(model["stages"]) for model in models} >= {1, 2, 3, 4, 8}
    assert {model["head_kernel"] for model in models} >= {1, 3, 15}
    kinds = {(model["hfscm"] is None, model["msfrp_stage"] is None) for model in models}
    assert len(kinds) == 4
    masks = {tuple(stage["hfscm"] for stage in model["stages"]) for model in models}
    bilinear = {tuple(stage["bilinear"] for stage in model["stages"]) for model in models}
    assert {(True,), (False, False), (True, False, True, True)} <= bilinear
    assert {(True, False), (False, True), (True, True), (True, True, True)} <= masks
    places = {
        (model["msfrp_stage"], len(model["stages"]))
        for model in models
        if model["msfrp_stage"] is not None
    }
    assert {(0, 3), (1, 3), (1, 2)} <= places


def test_every_value_of_head_occurs() -> None:
    heads = [described(name)["head"] for name in VALID]
    assert {head["matrix"] for head in heads} == {1, 4, 5, 6, 7, 9}
    assert {head["range"] for head in heads} == {0, 1}
    assert {head["rotation"] for head in heads} == {0, 1, 2, 3}
    assert min(head["start"] for head in heads) == -(2**62)
    assert max(head["start"] for head in heads) == 2**62 - 1


def test_every_key_of_meta_occurs() -> None:
    keys = {"tool", "source", "epochs", "seed", "crop", "audio", "title"}
    assert described("meta_all")["meta"].keys() == keys
    assert described("meta_ignored")["meta"] == {}


# --- the files themselves -----------------------------------------------------------------------


def test_every_vector_has_its_description_and_nothing_else_is_there() -> None:
    found = {path.name for path in (FOLDER / "valid").iterdir()}
    assert found == {f"{name}.{suffix}" for name in VALID for suffix in ("hfsv", "json")}
    found = {path.name for path in (FOLDER / "invalid").iterdir()}
    assert found == {"index.json", *(f"{name}.hfsv" for name in INDEX)}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 400_000


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return all_files()


def test_the_vectors_are_those_that_the_tool_makes(made: dict[str, bytes]) -> None:
    assert differences(made, FOLDER) == []


def test_a_vector_out_of_date_is_found(made: dict[str, bytes], tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    changed = tmp_path / "valid" / "minimal.hfsv"
    changed.write_bytes(changed.read_bytes() + b"\x00")
    (tmp_path / "valid" / "bare.json").unlink()
    (tmp_path / "invalid" / "stray.hfsv").write_bytes(b"")
    names = ["invalid/stray.hfsv", "valid/bare.json", "valid/minimal.hfsv"]
    assert differences(made, tmp_path) == names
