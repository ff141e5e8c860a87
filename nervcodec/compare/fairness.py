"""The fairness card of a report: what was run, what is counted, what is measured, and where."""

from __future__ import annotations

from typing import Any

from nervcodec.compare.encoders import LABELS
from nervcodec.compare.points import OURS, Point
from nervcodec.compare.results import Results, libraries, machine
from nervcodec.info import MATRIX_NAMES
from nervcodec.version import __version__

Row = tuple[str, str, str]
"""A question of a sceptical reader, its answer, and the encoder's own words where it has some."""

MEASURES = {
    "psnr": "RGB PSNR: mean over the frames of 10 log10(255²/MSE) over all three channels of "
    "8-bit full-range RGB, each frame at most 100 dB. Codecs in Y'CbCr 4:2:0 pay for the "
    "subsampling here. x264 and x265 are tuned for the eye as they come, which costs them PSNR; "
    "SVT-AV1 is tuned for PSNR. --tune psnr tunes all of them for it.",
    "psnr_611": "Y'CbCr PSNR 6:1:1: (6 Y' + Cb + Cr)/8 of the planes' PSNR, mean over the frames, "
    "peak 255. Of the anchors, the decoder's planes against those the encoder was given; of .hfsv, "
    "its RGB frames converted as the source's are.",
    "ms_ssim": "MS-SSIM: pytorch-msssim on RGB, five scales, window 11, mean over the frames.",
    "ssim": "SSIM: FFmpeg's filter ssim, field All, on the same Y'CbCr planes, mean over the "
    "frames.",
    "xpsnr": "XPSNR: FFmpeg's filter xpsnr on the same planes, weighted 6:1:1, mean over the "
    "frames.",
    "vmaf": "VMAF: FFmpeg's filter libvmaf with its default model on the same planes.",
}


def fairness_card(results: Results) -> list[Row]:
    """All rows, in the order of a page."""
    answers = [("Frames", _frames(results)), ("Colour", _color(results.reference))]
    for name in results.metrics():
        title, _, definition = MEASURES[name].partition(": ")
        answers.append((f"Measure: {title}", definition))
    answers += [(f"Left out: {name}", why) for name, why in results.left_out.items()]
    answers += _bytes_rows(results)
    rows: list[Row] = [(question, answer, "") for question, answer in answers]
    rows += [(name, *_encoder(points)) for name, points in results.curves().items()]
    found, versions = machine(), libraries()
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    place = f"{found['processor']}, {found['cores']} cores, {found['system']}"
    rows += [
        ("Seconds", SECONDS, ""),
        ("Machine", place, ""),
        ("Versions", f"nervcodec {__version__}, {words}", ""),
    ]
    return rows


SECONDS = (
    "Wall clock on this machine, conversion from and to RGB included: anchors encode with all "
    "threads that they take by themselves and decode on one; .hfsv files are decoded by the fast "
    "float32 path, with all threads unless --threads says otherwise. What a .hfsv that was there "
    "already took to encode is not known. Whatever else ran at the time is in them."
)


def _frames(results: Results) -> str:
    reference = results.reference
    size = reference["source_size"]
    chosen = reference["selection"]
    text = (
        f"{reference['frames']} frames of {reference['name']} ({reference['codec']}, "
        f"{size[0]}x{size[1]} {reference['pixel_format']}, SHA-256 {reference['digest']}…)"
    )
    if crop := chosen.get("crop"):
        text += f", centre crop {crop[0]}x{crop[1]}"
    if [reference["width"], reference["height"]] != (chosen.get("crop") or size):
        text += f", scaled by area to {reference['width']}x{reference['height']}"
    if start := chosen.get("start"):
        text += f", from {start:g} s on"
    return (
        f"{text}. All codecs get these very RGB frames at {reference['frame_rate']} a second, "
        "and decoded frames are compared by index. The source itself is lossy unless it says "
        "otherwise: codecs of its own kind may find its blocks easy."
    )


def _color(reference: dict[str, Any]) -> str:
    color = reference["color"]
    matrix = MATRIX_NAMES.get(color["matrix"], str(color["matrix"]))
    assumed = ", by rule since the source carries no tags" if color["assumed"] else ""
    extent = "full" if color["full_range"] else "limited"
    return (
        f"Matrix {matrix}, {extent} range{assumed}: the same for what the anchors code, for what "
        "they decode to, and for the measures in Y'CbCr. 8 bits throughout; swscale, bicubic "
        "chroma, accurate rounding."
    )


def _bytes_rows(results: Results) -> list[tuple[str, str]]:
    points = list(results.points.values())
    text = max((p.details["text_bytes"] for p in points if p.codec != OURS), default=0)
    extra = [p.details["extradata_bytes"] for p in points if p.codec != OURS]
    anchors = (
        "Anchors: all video packets, without any container and without the parameter sets that "
        "a container stores once"
    )
    if extra:
        anchors += f" ({min(extra)} to {max(extra)} bytes, x265's text about itself among them)"
    if text:
        anchors += (
            f"; {text} bytes of x264's text about itself, which is in its first packet, are counted"
        )
    rows = [("Bytes", anchors + ".")]
    if results.ours():
        rows.append(
            (
                "Bytes of .hfsv",
                "The whole file: header, checksums, metadata, hashes, all networks; without the "
                "sound and subtitles that are passed through.",
            )
        )
    return rows


def _encoder(points: list[Point]) -> tuple[str, str]:
    """What was set and what came of it, and how the encoder itself tells its settings."""
    first = points[0]
    if first.codec == OURS:
        parts = [
            f"{p.setting}: {p.details['parameters']:,} parameters in {p.details['segments']} "
            f"segment(s), {p.details['epochs']} epochs, seed {p.details['seed']}, "
            f"{p.details['macs_per_frame'] / 1e9:.2f} GMAC a frame, {_seconds(p)}"
            for p in points
        ]
        return f"Made by {first.details['encoder']}. " + "; ".join(parts) + ".", ""
    middle = points[len(points) // 2]
    crfs = ", ".join(f"{crf:g}" for crf in sorted({p.details["crf"] for p in points}))
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(middle.details["frame_types"].items()))
    value = first.details["preset_value"]
    name = LABELS[first.codec].name
    tune = "".join(f" -{k} {v}" for k, v in LABELS[first.codec].tuned(first.tune or None).items())
    answer = (
        f"CRF {crfs}, {first.details['pixel_format']}, one pass; as the ffmpeg program's options "
        f"-c:v {name} -preset {value}{tune} -crf N, and everything else (GOP, B-frames, "
        f"look-ahead, psychovisual decisions) as it comes. At {middle.setting}: frames "
        f"{kinds}, {middle.details['keyframes']} keyframe(s), {_seconds(middle)}."
    )
    words = middle.details["encoder"]
    return answer, f"{middle.setting}: {words}" if words else ""


def _seconds(point: Point) -> str:
    encoded = "" if point.encode_seconds is None else f"encode {point.encode_seconds:.1f} s, "
    return f"{encoded}decode {point.decode_seconds:.1f} s"
