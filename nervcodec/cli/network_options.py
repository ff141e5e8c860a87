"""The options of ``hfsv encode`` that shape the network and its training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from nervcodec.bitstream.syntax import Attention, HfscmSpec
from nervcodec.cli.rate_options import chosen_rate_weight
from nervcodec.config import (
    ARCHITECTURES,
    ENCODERS,
    HFS_HNERV,
    HNERV,
    OPTIMIZERS,
    PRECISIONS,
    PRESETS,
    UPSAMPLINGS,
    ModelConfig,
    TrainConfig,
    parse_count,
)
from nervcodec.errors import UsageError

_TRAIN = TrainConfig()
_MODEL = ModelConfig()
_BLOCK = _MODEL.hfscm_spec
ATTENTIONS = {attention.name.lower(): attention for attention in Attention}

_OPTIONS = (
    click.option(
        "--arch",
        type=click.Choice(ARCHITECTURES),
        default=HFS_HNERV,
        show_default=True,
        help="The network; hfs-hnerv is hnerv with HFSCM, MSFRP and the HFS loss.",
    ),
    click.option("--hfscm/--no-hfscm", default=None, help="High-frequency attention blocks."),
    click.option(
        "--hfscm-stages",
        metavar="N,N...",
        help="Stages that carry them, from 0 or, negative, from the last.  "
        "[default: all but the last and those of large maps]",
    ),
    click.option(
        "--detail",
        type=click.IntRange(0, 64),
        help="Channels of a second, finer embedding of each frame (HNeRV).  [default: 1 or 2 by "
        "the frame's size, but 0 with --lambda 0]",
    ),
    click.option(
        "--stage-kernel",
        type=click.IntRange(1, 15),
        default=_MODEL.largest_kernel,
        show_default=True,
        help="Largest kernel of HNeRV's stages, odd; 5 in the paper.",
    ),
    click.option(
        "--taper",
        type=float,
        help="How many times the next stage's channels a stage has.  [default: 1.2, and up to 2 "
        "for large frames]",
    ),
    click.option(
        "--upsampling",
        type=click.Choice(UPSAMPLINGS),
        help="How stages after the first enlarge their maps.  [default: bilinear for hfs-hnerv, "
        "else shuffle, as in the paper]",
    ),
    click.option("--msfrp/--no-msfrp", default=None, help="Multi-scale feature reuse path."),
    click.option(
        "--msfrp-after", is_flag=True, help="Add the reused map to the frame, not before its tanh."
    ),
    click.option(
        "--attention",
        type=click.Choice(tuple(ATTENTIONS)),
        default=_BLOCK.attention.name.lower(),
        show_default=True,
        help="HFSCM's spatial attention.",
    ),
    click.option(
        "--attention-kernel",
        type=click.IntRange(1, 15),
        default=_BLOCK.kernel,
        show_default=True,
        help="Its convolutions' kernel, odd; 7 in the paper.",
    ),
    click.option(
        "--attention-norm", is_flag=True, help="Normalise what enters the spatial attention's GELU."
    ),
    click.option(
        "--phi",
        metavar="LL,HL,LH,HH",
        help="Initial weights of the wavelet bands.  [default: 1,1,1,1]",
    ),
    click.option(
        "--extra-convs",
        type=click.IntRange(0, 4),
        default=_BLOCK.extra_convs,
        show_default=True,
        help="Convolutions after HFSCM's attention.",
    ),
    click.option(
        "--extra-kernel",
        type=click.IntRange(1, 15),
        default=_BLOCK.extra_kernel,
        show_default=True,
        help="Their kernel, odd.",
    ),
    click.option("--epochs", type=click.IntRange(1), help="Passes over the frames; over --preset."),
    click.option(
        "--stop-below",
        "least_gain",
        type=float,
        metavar="DB",
        help="Come to an end early when the PSNR gains less than DB a minute: the last quarter of "
        "the schedule follows at once.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(1),
        default=_TRAIN.batch,
        show_default=True,
        help="Frames a step.",
    ),
    click.option(
        "--optimizer",
        type=click.Choice(tuple(OPTIMIZERS)),
        default=_TRAIN.optimizer,
        show_default=True,
        help="What makes steps of gradients.",
    ),
    click.option(
        "--lr",
        type=float,
        help="Peak learning rate.  [default: "
        + ", ".join(f"{values[0]:g} for {name}" for name, values in OPTIMIZERS.items())
        + "; less for wide networks]",
    ),
    click.option(
        "--warmup",
        type=float,
        default=_TRAIN.warmup,
        show_default=True,
        help="Share of the steps that warm up; a cosine to 0 follows.",
    ),
    click.option(
        "--hfs-weight",
        type=float,
        default=None,
        help=f"beta of the HFS loss.  [default: {_TRAIN.hfs_weight}; 0 for the other networks]",
    ),
    click.option(
        "--hfs-gain",
        type=float,
        default=_TRAIN.hfs_gain,
        show_default=True,
        help="g of the HFS loss.",
    ),
    click.option(
        "--hfs-cutoff",
        type=click.IntRange(1),
        default=None,
        help="m of the HFS loss.  [default: 17 x shorter side / 640]",
    ),
    click.option(
        "--psnr-weights/--no-psnr-weights",
        default=_TRAIN.psnr_weights,
        show_default=True,
        help="Weigh frames so that the mean of their PSNR grows, or all alike.",
    ),
    click.option(
        "--encoder",
        type=click.Choice(tuple(ENCODERS)),
        default=_TRAIN.encoder,
        show_default=True,
        help="HNeRV's content encoder, which no file holds: compact, or as published, which "
        "takes longer.",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=_TRAIN.precision,
        show_default=True,
        help="What networks are evaluated in while they are trained. bfloat16 is for GPUs; on CPUs "
        "it is slower.",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
)


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def train_config(options: dict[str, Any]) -> TrainConfig:
    """The schedule; the HFS loss is HFS-HNeRV's unless it is asked for.

    Raises:
        UsageError: for a value that cannot be.
    """
    extended, weight = options["arch"] == HFS_HNERV, options["hfs_weight"]
    return TrainConfig(
        epochs=options["epochs"] or PRESETS[options["preset"]],
        least_gain=options["least_gain"],
        batch=options["batch"],
        optimizer=options["optimizer"],
        learning_rate=options["lr"],
        warmup=options["warmup"],
        hfs_weight=weight if weight is not None else _TRAIN.hfs_weight * extended,
        hfs_gain=options["hfs_gain"],
        hfs_cutoff=options["hfs_cutoff"],
        phi=_phi(options["phi"]) if options["phi"] else _TRAIN.phi,
        rate_weight=chosen_rate_weight(options),
        psnr_weights=options["psnr_weights"],
        encoder=options["encoder"],
        precision=options["precision"],
        seed=options["seed"],
    )


def model_config(options: dict[str, Any]) -> ModelConfig:
    """The network; its parts are HFS-HNeRV's unless they are asked for or switched off.

    Raises:
        UsageError: for a value that cannot be.
    """
    extended = options["arch"] == HFS_HNERV
    hfscm, msfrp = options["hfscm"], options["msfrp"]
    return ModelConfig(
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
        upsampling=options["upsampling"],
        hfscm_stages=_numbers(options["hfscm_stages"]) if options["hfscm_stages"] else None,
        msfrp_after=options["msfrp_after"],
        detail_channels=options["detail"],
        largest_kernel=options["stage_kernel"],
        taper=options["taper"],
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
