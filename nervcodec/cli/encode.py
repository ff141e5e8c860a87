"""``hfsv encode``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nervcodec.cli.common import (
    clock,
    kilobytes,
    may_overwrite,
    output_options,
    paths_options,
    rate,
    raw_options,
    resolve_paths,
)
from nervcodec.cli.network_options import model_config, network_options, train_config
from nervcodec.cli.pipes import STDIO, check_json, input_file, output_file, temp_option
from nervcodec.cli.position import position, seconds
from nervcodec.cli.progress import Progress, emit
from nervcodec.cli.rate_options import rate_options, size_target
from nervcodec.cli.signals import INTERRUPTED, StopRequest
from nervcodec.cli.terminal import say
from nervcodec.config import DEFAULT_PRESET, PRESETS, EncodeConfig, RawFormat, parse_size
from nervcodec.errors import InterruptedEncode, UsageError
from nervcodec.files import check_output
from nervcodec.samples import BIT_DEPTHS

if TYPE_CHECKING:
    from nervcodec.reports import EncodeReport


@click.command("encode", short_help="Encode a video to .hfsv.")
@paths_options
@click.option(
    "--preset",
    type=click.Choice(tuple(PRESETS)),
    default=DEFAULT_PRESET,
    show_default=True,
    help="Effort: epochs from 5 (ultrafast) to 1200 (placebo).",
)
@click.option(
    "--time",
    type=seconds,
    metavar="TIME",
    help="Take so long, over --preset: 90s, 30m, 2h, 1:30:00. The file then depends on the "
    "machine's speed.",
)
@rate_options
@raw_options
@click.option(
    "--input-rate",
    callback=rate,
    metavar="FPS",
    help="Frames a second of raw video or pictures, such as 30000/1001.  [default: 25]",
)
@click.option("--size", metavar="WxH", help="Scale the frames, down by area.")
@click.option("--crop", metavar="WxH", help="Cut from the middle, before --size.")
@click.option(
    "-ss",
    "start",
    type=seconds,
    metavar="TIME",
    help="Begin so far after the first frame: 12.5, 10s, 500ms, 1:02.5. The result begins at 0.",
)
@click.option("-t", "duration", type=seconds, metavar="TIME", help="Encode so long; over -to.")
@click.option("-to", "end", type=seconds, metavar="TIME", help="End so far after the first frame.")
@click.option("--frames", type=click.IntRange(1), help="Encode at most N frames.")
@click.option(
    "--bit-depth",
    type=click.Choice(tuple(map(str, BIT_DEPTHS))),
    help="Bits a sample of the coded frames. Default: the source's, at most 12.",
)
@click.option(
    "--keyint",
    metavar="N|TIME",
    help="The longest segment, in frames or as a time such as 10s. Default: one segment.",
)
@click.option(
    "--scene-cut",
    type=float,
    is_flag=False,
    flag_value=10.0,
    metavar="[PERCENT]",
    help="Begin a segment where a frame differs so much from the one before (10 alone).",
)
@click.option("-an", "no_audio", is_flag=True, help="Leave the audio out.")
@click.option("-sn", "no_subtitles", is_flag=True, help="Leave the subtitles out.")
@click.option(
    "--allow-damaged", is_flag=True, help="Of a damaged video, encode the frames that decode."
)
@network_options
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Train N segments (--keyint makes them) side by side, each with --threads, by default the "
    "cores divided by N. Default: 1; on a Ray cluster as many as it has room for.",
)
@click.option(
    "--executor",
    metavar="NAME",
    help="Where: processes of this machine, ray, or ray:ADDRESS of a cluster. Default: processes.",
)
@click.option(
    "--gpu-share",
    type=float,
    default=1.0,
    show_default=True,
    metavar="GPUS",
    help="GPUs for each worker on a Ray cluster that has any: 0.5 lets two share one.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from OUT.checkpoint, if it is there; source and settings must be the same.",
)
@click.option(
    "--checkpoint-every",
    "checkpoint_seconds",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How often OUT.checkpoint is written; 0 for never.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only say, after some seconds of trial, how large the file would become, and how long and "
    "how much memory it would take. OUT may be left out.",
)
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep a page there that shows a frame and the PSNR while the network is trained.",
)
@temp_option
@output_options
def encode_command(
    paths: tuple[str, ...],
    input_path: str | None,
    output_path: str | None,
    raw: RawFormat | None,
    temp: Path | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Encode the video IN to the .hfsv file OUT.

    A network is trained to reproduce the frames; that takes minutes to hours. How large the file
    becomes is a matter of --crf, of a size to keep to (--target-size, --bitrate or --bpp), or of a
    quality to reach: --min-psnr.

    IN may be - for standard input, or a folder of pictures with a number in their names; OUT may
    be - for standard output, which gets the file when it is finished.

    Ctrl-C stops the training and writes the file from the weights so far (exit code 130); once
    more leaves at once. Either way --resume goes on later.

    \b
    Examples:
      hfsv encode in.mp4 out.hfsv
      hfsv encode in.mp4 out.hfsv --crf 26 --preset slow
      hfsv encode in.mp4 out.hfsv --target-size 80k
      hfsv encode in.mp4 out.hfsv --bitrate 120k --time 30m
      hfsv encode in.mp4 out.hfsv --min-psnr 34
      hfsv encode in.mp4 out.hfsv --params 60k --preset fast
      hfsv encode in.mp4 out.hfsv --crop 1280x640 --size 320x160
      hfsv encode film.mkv out.hfsv -ss 1:02.5 -t 10
      hfsv encode in.mp4 out.hfsv --arch hnerv --epochs 300
      hfsv encode film.mp4 out.hfsv --keyint 10s --scene-cut
      hfsv encode film.mp4 out.hfsv --keyint 10s -w 8 --threads 1
      hfsv encode film.mp4 out.hfsv --keyint 10s --executor ray:10.0.0.1:6379
      hfsv encode in.mp4 --preset slow --dry-run
      hfsv encode in.mp4 out.hfsv --resume
      hfsv encode in.mp4 out.hfsv --preview look    # then open look/index.html
      ffmpeg -i in.mp4 -f yuv4mpegpipe - | hfsv encode - out.hfsv
      hfsv encode in.yuv out.hfsv --input-res 640x360 --input-rate 30
      hfsv encode frames/ out.hfsv --input-rate 24
    """
    if options["dry_run"] and output_path is None and len(paths) + (input_path is not None) == 1:
        output_path = "dry-run.hfsv"
    source, output = resolve_paths(paths, input_path, output_path)
    check_json(output, as_json)
    if options["dry_run"]:
        with input_file(source, temp, quiet, as_json) as read:
            return _estimate(read, _config(raw, overwrite, options), as_json)
    if output == STDIO:
        if options["resume"]:
            raise UsageError("--resume needs an output with a name")
        options["checkpoint_seconds"] = 0.0
    elif not options["resume"]:
        overwrite = may_overwrite(Path(output), overwrite)
    config = _config(raw, overwrite, options)
    if STDIO == source != output:
        check_output(None, Path(output), overwrite or config.resume)
    with (
        output_file(output, temp) as written,
        input_file(source, temp, quiet, as_json) as read,
    ):
        name = "standard output" if output == STDIO else output
        return _encode(read, written, name, config, quiet, as_json)


def _encode(
    source: Path, output: Path, name: str, config: EncodeConfig, quiet: bool, as_json: bool
) -> int:
    """Encode and tell of it; ``name`` is the output's for a person."""
    from nervcodec.encoder import encode

    with StopRequest() as stop:
        try:
            with Progress(quiet, as_json) as progress:
                report = encode(source, output, config, progress.encoding, stop.requested)
        except InterruptedEncode as exc:
            say(f"hfsv: {exc}")
            return stop.exit_code or exc.exit_code
    if as_json:
        emit("result", **asdict(report))
    elif not quiet:
        _tell(report)
    if not report.interrupted:
        return 0
    hint = "; --resume goes on with the training" if config.checkpoint_seconds > 0 else ""
    say(
        f"hfsv: interrupted: {name} was written from the weights so far "
        f"({report.frames} frames){hint}"
    )
    return stop.exit_code or INTERRUPTED


def _estimate(source: Path, config: EncodeConfig, as_json: bool) -> int:
    """Say what an encode would come to."""
    from nervcodec.estimator import estimate

    found = estimate(source, config)
    if as_json:
        emit("result", **asdict(found))
        return 0
    for warning in found.warnings:
        say(f"hfsv: warning: {warning}")
    parts = f" in {found.segments} segments" if found.segments > 1 else ""
    say(f"{found.frames} frames {found.width}x{found.height}, {found.params:,} parameters{parts}")
    sound = f" and {kilobytes(found.passed_bytes)} of sound" if found.passed_bytes else ""
    limit = "at most" if config.size_target else "about"
    say(f"{limit} {kilobytes(found.own_bytes)}{sound}")
    memory = found.memory_bytes
    text = "" if memory is None else f", {memory / 1e9:.1f} GB of memory"
    say(f"about {clock(found.seconds)} for {found.epochs} epochs{text}")
    return 0


def _config(raw: RawFormat | None, overwrite: bool, options: dict[str, Any]) -> EncodeConfig:
    return EncodeConfig(
        train=train_config(options),
        model=model_config(options),
        raw=raw,
        input_rate=options["input_rate"],
        crop=parse_size(options["crop"]) if options["crop"] else None,
        size=parse_size(options["size"]) if options["size"] else None,
        start=options["start"],
        end=_end(options["start"], options["duration"], options["end"]),
        frames=options["frames"],
        bit_depth=int(options["bit_depth"]) if options["bit_depth"] else None,
        keyint=position(options["keyint"]) if options["keyint"] else None,
        scene_cut=options["scene_cut"],
        size_target=size_target(options),
        min_psnr=options["min_psnr"],
        time=options["time"],
        audio=not options["no_audio"],
        subtitles=not options["no_subtitles"],
        allow_damaged=options["allow_damaged"],
        device=options["device"],
        threads=options["threads"],
        workers=options["workers"],
        executor=options["executor"],
        gpu_share=options["gpu_share"],
        overwrite=overwrite,
        resume=options["resume"],
        checkpoint_seconds=options["checkpoint_seconds"],
        preview=options["preview"],
    )


def _end(
    start: timedelta | None, duration: timedelta | None, end: timedelta | None
) -> timedelta | None:
    """Where the part ends: as with FFmpeg the duration counts where both are given."""
    return end if duration is None else (start or timedelta()) + duration


def _tell(report: EncodeReport) -> None:
    similarity = "" if report.ms_ssim is None else f"  MS-SSIM {report.ms_ssim:.4f}"
    audio = f", of which audio {kilobytes(report.audio_bytes)}" if report.audio_bytes else ""
    say(f"{report.frames} frames {report.width}x{report.height}, {report.params:,} parameters")
    say(f"{kilobytes(report.file_bytes)}{audio}  {report.bits_per_pixel:.4f} bpp")
    kind = (
        f"of {report.measured_frames} frames"
        if report.float_psnr is None
        else f"{report.float_psnr:.2f} as trained"
    )
    say(f"PSNR {report.psnr:.2f} dB ({kind}){similarity}")
    say(f"encoded in {clock(report.seconds)} (training {clock(report.train_seconds)})")
