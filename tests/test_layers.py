"""``hfsv info --layers``: every byte of a file is some row's, and the symbols' rows are true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nervcodec.bitstream.segment import tensor_bits
from nervcodec.bitstream.stream import StreamReader, open_stream
from nervcodec.bitstream.tensors import DETAIL, Limits
from nervcodec.cli.main import cli
from nervcodec.info import layers, probe

VALID = sorted((Path(__file__).parent / "vectors" / "valid").glob("*.hfsv"))
ROUNDING = 8
"""Bytes: the coder's state is two words, and a word may be padding."""


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_the_rows_add_up(path: Path) -> None:
    info, parts = probe(path), layers(path)
    assert sum(part.bytes for part in parts) == pytest.approx(info.chunk_bytes["SEGM"])
    parameters = sum(info.parameters(segment) for segment in info.segments)
    assert sum(part.values for part in parts if part.name != DETAIL) == parameters


# What an empty run of words decodes to costs nothing, whatever its probability.
@pytest.mark.parametrize(
    "path", [path for path in VALID if path.stem != "no_words"], ids=lambda path: path.stem
)
def test_symbols_take_as_many_bytes_as_there_are_words(path: Path) -> None:
    with open_stream(path) as stream:
        reader = StreamReader(stream, Limits())
        for number, segment in enumerate(reader.segments):
            payload = reader.container.payload(segment.chunk)
            parts = tensor_bits(payload, reader.header, Limits())
            side = sum(part.side for part in parts) / 8
            symbols = sum(part.symbols for part in parts) / 8
            head = len(segment.model.to_bytes()) + 4 + 3 * 9 + 9
            words = len(payload) - side
            assert words - head - ROUNDING <= symbols <= words + ROUNDING
            assert [p.spec for p in parts] == [t.spec for t in reader.segment(number).tensors]


def test_the_table_and_its_json() -> None:
    path = max(VALID, key=lambda path: path.stat().st_size)
    table = CliRunner().invoke(cli, ["info", str(path), "--layers"])
    assert table.exit_code == 0, table.output
    rows = table.output[table.output.index("  tensor") :].splitlines()
    assert rows[-1].split()[:2] == ["file", f"{path.stat().st_size:,.1f}"]
    described = json.loads(
        CliRunner().invoke(cli, ["info", str(path), "--layers", "--json"]).output
    )
    listed = described["hfsv"]["layers"]
    assert [row["name"] for row in listed] == [part.name for part in layers(path)]
    assert "layers" not in json.loads(CliRunner().invoke(cli, ["info", str(path), "--json"]).output)
