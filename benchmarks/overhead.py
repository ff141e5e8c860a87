"""Where a file's bytes go; ``python -m benchmarks.overhead FILE.hfsv ...`` prints JSON lines.

The container is what a file would not need if its networks were stored bare and nothing were
checked: signature, chunk frames, HEAD, PTSD, META, HASH and END. Percentages are of the file
without audio.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from nervcodec.bitstream.container import CRC_BYTES, SIGNATURE
from nervcodec.bitstream.segment import Segment, encode_segment
from nervcodec.bitstream.stream import StreamReader, open_stream
from nervcodec.bitstream.tensors import Limits
from nervcodec.bitstream.wire import varint
from nervcodec.errors import BitstreamError
from nervcodec.info import probe


def segment_parts(segment: Segment, stored: bytes) -> Counter[str]:
    """Bytes of a SEGM payload's parts.

    Raises:
        BitstreamError: if ``stored`` is not what this encoder makes of the segment.
    """
    payload, size = encode_segment(segment)
    if payload != stored:
        raise BitstreamError(f"segment {segment.index} was coded by another encoder")
    place = sum(len(varint(n)) for n in (segment.index, segment.first_frame, segment.frames))
    parts = Counter(
        words=size.words,
        tables=size.tables,
        scales=sum(2 * tensor.scales.size for tensor in segment.tensors),
        model=len(segment.model.to_bytes()),
        place=place,
        symbols_crc=CRC_BYTES,
        word_count=len(varint(size.words // 4)),
    )
    parts["coding_and_zero"] = len(payload) - parts.total()
    return parts


def file_parts(path: Path) -> dict[str, Any]:
    """Bytes of a file's parts, which sum to its length; a chunk's include its frame.

    Raises:
        BitstreamError: if the file is invalid or of another encoder.
    """
    info = probe(path)
    network: Counter[str] = Counter()
    with open_stream(path) as stream:
        reader = StreamReader(stream, Limits())
        for index, place in enumerate(reader.segments):
            network += segment_parts(reader.segment(index), reader.container.payload(place.chunk))
    container = {"signature": len(SIGNATURE)} | info.chunk_bytes
    container["SEGM"] -= network.total()
    container.pop("AUDI", None)
    overhead = sum(container.values())
    video = info.file_bytes - info.audio_bytes
    return {
        "file": path.name,
        "file_bytes": info.file_bytes,
        "audio_bytes": info.audio_bytes,
        "segments": len(info.segments),
        "parameters": sum(info.parameters(segment) for segment in info.segments),
        "network": dict(network.most_common()),
        "container": container,
        "container_bytes": overhead,
        "container_percent": round(100 * overhead / video, 3),
        "words_percent": round(100 * network["words"] / video, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    for path in parser.parse_args().files:
        print(json.dumps(file_parts(path)), flush=True)


if __name__ == "__main__":
    main()
