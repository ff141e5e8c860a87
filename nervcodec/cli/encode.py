"""``hfsv encode``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nervcodec.bitstream.syntax import Attention, HfscmSpec
from nervcodec.cli.common import (
    clock,
    kilobytes,
    may_overwrite,
    output_options,
    paths_options,
    rate,
    raw_options,
    resolve_paths,
    say,
)
from nervcodec.cli.pipes import STDIO, check_json, input_file, output_file, temp_option
from nervcodec.cli.position import position, seconds
from nervcodec.cli.progress import Progress, emit
from nervcodec.cli.signals import INTERRUPTED, StopRequest
from nervcodec.config import (
    ARCHITECTURES,
    DEFAULT_PRESET,
    HFS_HNERV,
    HNERV,
    PRESETS,
    EncodeConfig,
    ModelConfig,
    RawFormat,
    TrainConfig,
    parse_count,
    parse_size,
)
from nervcodec.errors import InterruptedEncode, UsageError
from nervcodec.files import check_output
from nervcodec.samples import BIT_DEPTHS

if TYPE_CHECKING:
    from nervcodec.reports import EncodeReport

_TRAIN = TrainConfig()
_BLOCK = HfscmSpec()
ATTENTIONS = {attention.name.lower(): attention for attention in Attention}


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
    "--params",
    metavar="N",
    help="Decoder parameters and embedding values, such as 60k or 1.5M; a byte or "
    "somewhat less each. Default: 0.1 bit a pixel, between 8k and 3M.",
)
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
@click.option(
    "--arch",
    type=click.Choice(ARCHITECTURES),
    default=HFS_HNERV,
    show_default=True,
    help="The network; hfs-hnerv is hnerv with HFSCM, MSFRP and the HFS loss.",
)
@click.option("--hfscm/--no-hfscm", default=None, help="High-frequency attention blocks.")
@click.option(
    "--hfscm-stages",
    metavar="N,N...",
    help="Stages that carry them, from 0 or, negative, from the last.  [default: all]",
)
@click.option("--msfrp/--no-msfrp", default=None, help="Multi-scale feature reuse path.")
@click.option(
    "--msfrp-after", is_flag=True, help="Add the reused map to the frame, not before its tanh."
)
@click.option(
    "--attention",
    type=click.Choice(tuple(ATTENTIONS)),
    default=_BLOCK.attention.name.lower(),
    show_default=True,
    help="HFSCM's spatial attention.",
)
@click.option(
    "--attention-kernel",
    type=click.IntRange(1, 15),
    default=_BLOCK.kernel,
    show_default=True,
    help="Its convolutions' kernel, odd.",
)
@click.option(
    "--attention-norm", is_flag=True, help="Normalise what enters the spatial attention's GELU."
)
@click.option(
    "--phi",
    metavar="LL,HL,LH,HH",
    help="Initial weights of the wavelet bands.  [default: 1,1,1,1]",
)
@click.option(
    "--extra-convs",
    type=click.IntRange(0, 4),
    default=_BLOCK.extra_convs,
    show_default=True,
    help="Convolutions after HFSCM's attention.",
)
@click.option(
    "--extra-kernel",
    type=click.IntRange(1, 15),
    default=_BLOCK.extra_kernel,
    show_default=True,
    help="Their kernel, odd.",
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the frames; over --preset.")
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=_TRAIN.batch,
    show_default=True,
    help="Frames a step.",
)
@click.option(
    "--lr",
    type=float,
    default=_TRAIN.learning_rate,
    show_default=True,
    help="Peak learning rate of Adam.",
)
@click.option(
    "--warmup",
    type=float,
    default=_TRAIN.warmup,
    show_default=True,
    help="Share of the steps that warm up; a cosine to 0 follows.",
)
@click.option(
    "--hfs-weight",
    type=float,
    default=None,
    help=f"beta of the HFS loss.  [default: {_TRAIN.hfs_weight}; 0 with --arch hnerv]",
)
@click.option(
    "--hfs-gain", type=float, default=_TRAIN.hfs_gain, show_default=True, help="g of the HFS loss."
)
@click.option(
    "--hfs-cutoff",
    type=click.IntRange(1),
    default=None,
    help="m of the HFS loss.  [default: 17 x shorter side / 640]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
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

    A network is trained to reproduce the frames; that takes minutes to hours. The size of the
    file follows from --params and is told at once.

    IN may be - for standard input, or a folder of pictures with a number in their names; OUT may
    be - for standard output, which gets the file when it is finished.

    Ctrl-C stops the training and writes the file from the weights so far (exit code 130); once
    more leaves at once. Either way --resume goes on later.

    \b
    Examples:
      hfsv encode in.mp4 out.hfsv
      hfsv encode in.mp4 out.hfsv --params 60k --preset fast
      hfsv encode in.mp4 out.hfsv --crop 1280x640 --size 320x160
      hfsv encode film.mkv out.hfsv -ss 1:02.5 -t 10
      hfsv encode in.mp4 out.hfsv --arch hnerv --epochs 300
      hfsv encode film.mp4 out.hfsv --keyint 10s --scene-cut
      hfsv encode in.mp4 out.hfsv --resume
      ffmpeg -i in.mp4 -f yuv4mpegpipe - | hfsv encode - out.hfsv
      hfsv encode in.yuv out.hfsv --input-res 640x360 --input-rate 30
      hfsv encode frames/ out.hfsv --input-rate 24
    """
    source, output = resolve_paths(paths, input_path, output_path)
    check_json(output, as_json)
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


def _config(raw: RawFormat | None, overwrite: bool, options: dict[str, Any]) -> EncodeConfig:
    extended = options["arch"] == HFS_HNERV
    weight = options["hfs_weight"]
    train = TrainConfig(
        epochs=options["epochs"] or PRESETS[options["preset"]],
        batch=options["batch"],
        learning_rate=options["lr"],
        warmup=options["warmup"],
        hfs_weight=weight if weight is not None else _TRAIN.hfs_weight * extended,
        hfs_gain=options["hfs_gain"],
        hfs_cutoff=options["hfs_cutoff"],
        phi=_phi(options["phi"]) if options["phi"] else _TRAIN.phi,
        seed=options["seed"],
    )
    hfscm, msfrp = options["hfscm"], options["msfrp"]
    model = ModelConfig(
        params=parse_count(options["params"]) if options["params"] else None,
        network=HNERV if extended else options["arch"],
        hfscm=extended if hfscm is None else hfscm,
        msfrp=extended if msfrp is None else msfrp,
        hfscm_spec=HfscmSpec(
            kernel=_odd(options, "attention_kernel"),
            attention=ATTENTIONS[options["attention"]],
            extra_convs=options["extra_convs"],
            extra_kernel=_odd(options, "extra_kernel"),
            norm=options["attention_norm"],
        ),
        hfscm_stages=_numbers(options["hfscm_stages"]) if options["hfscm_stages"] else None,
        msfrp_after=options["msfrp_after"],
    )
    return EncodeConfig(
        train=train,
        model=model,
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
        audio=not options["no_audio"],
        subtitles=not options["no_subtitles"],
        allow_damaged=options["allow_damaged"],
        device=options["device"],
        threads=options["threads"],
        overwrite=overwrite,
        resume=options["resume"],
        checkpoint_seconds=options["checkpoint_seconds"],
    )


def _odd(options: dict[str, Any], name: str) -> int:
    kernel: int = options[name]
    if kernel % 2 == 0:
        raise UsageError(f"--{name.replace('_', '-')} {kernel}: must be odd")
    return kernel


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--hfscm-stages {text}: not numbers such as 0,1,-1") from None


def _phi(text: str) -> tuple[float, float, float, float]:
    try:
        low, horizontal, vertical, diagonal = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--phi {text}: not four numbers such as 1,2,2,2") from None
    return low, horizontal, vertical, diagonal


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
        else f"float network {report.float_psnr:.2f}"
    )
    say(f"PSNR {report.psnr:.2f} dB ({kind}){similarity}")
    say(f"encoded in {clock(report.seconds)} (training {clock(report.train_seconds)})")
