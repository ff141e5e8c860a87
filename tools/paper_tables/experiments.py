"""What is encoded for the tables: clips, networks and schedules, at two scales."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nervcodec.bitstream.syntax import FORMAT_MAJOR, FORMAT_MINOR, Attention, HfscmSpec
from nervcodec.config import (
    ADAM,
    AS_PUBLISHED,
    BILINEAR,
    E_NERV,
    HNERV,
    NERV,
    SHUFFLE,
    EncodeConfig,
    ModelConfig,
    TrainConfig,
)
from nervcodec.errors import UsageError
from nervcodec.rate_control import choose_strides
from tools.bunny import bunny_path

FORMAT = f"{FORMAT_MAJOR}.{FORMAT_MINOR}"

PAPER_MODEL: dict[str, Any] = {
    "largest_kernel": 5,
    "upsampling": SHUFFLE,
    "hfscm_spec": HfscmSpec(kernel=7),
}
"""What the papers have and the program by default has not."""


def paper_model(coded: tuple[int, int], extended: bool, **changes: Any) -> ModelConfig:
    """HFS-HNeRV with HFSCM in all stages, or HNeRV, as published; ``coded`` is the frames' size."""
    stages = tuple(range(len(choose_strides(*coded))))
    parts = PAPER_MODEL | {"hfscm": extended, "msfrp": extended, "hfscm_stages": stages}
    return ModelConfig(**parts | changes)


PLAIN: dict[str, Any] = {"hfscm": False, "msfrp": False}


@dataclass(frozen=True)
class Clip:
    """A clip as it is encoded; ``file`` is below the folder that the variable names.

    ``coded`` is the size that comes of crop and scaling.
    """

    name: str
    coded: tuple[int, int]
    file: str | None = None
    variable: str = "HFSV_CLIPS"
    crop: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    frames: int | None = None

    def path(self) -> Path:
        """Raises UsageError where the clip is not on this machine."""
        if self.file is None:
            return bunny_path()
        folder = os.environ.get(self.variable)
        path = Path(folder or "", self.file)
        if not folder or not path.exists():
            raise UsageError(f"{self.name}: {self.variable} names no folder with {self.file}")
        return path


@dataclass(frozen=True)
class Scale:
    """Clips with their parameters at size 1, and the schedule.

    Attributes:
        format: version of the file format, with which bytes change: results of two are never mixed.
    """

    name: str
    clips: tuple[tuple[Clip, int], ...]
    train: TrainConfig
    format: str = FORMAT

    @property
    def folder(self) -> str:
        """Where its results are, below those of all."""
        return f"{self.name}-{self.format}"

    def clip(self, name: str) -> tuple[Clip, int]:
        return next(pair for pair in self.clips if pair[0].name == name)


SMALL = Scale(
    "small",
    (
        (Clip("bunny", (320, 160), crop=(1280, 640), size=(320, 160)), 74_000),
        (Clip("carphone", (176, 144), "carphone_qcif_qp10.mp4"), 37_000),
    ),
    TrainConfig(
        epochs=20, optimizer=ADAM, rate_weight=0.0, psnr_weights=False, encoder=AS_PUBLISHED
    ),
)
"""What two cores can bear: minutes a run. Learning rate and batch are the program's own."""

_UVG = ("Beauty", "Bosphorus", "HoneyBee", "Jockey", "ReadySteadyGo", "ShakeNDry", "YachtRide")

FULL = Scale(
    "full",
    (
        (Clip("bunny", (1280, 640), crop=(1280, 640)), 1_500_000),
        *(
            (Clip(name.lower(), (960, 480), f"{name}.mp4", "HFSV_UVG", size=(960, 480)), 1_500_000)
            for name in _UVG
        ),
    ),
    TrainConfig(
        epochs=300,
        batch=2,
        optimizer=ADAM,
        learning_rate=1e-3,
        rate_weight=0.0,
        psnr_weights=False,
        encoder=AS_PUBLISHED,
    ),
)
"""The paper's own condition, which needs a GPU: 300 epochs, Adam 1e-3, batch 2."""

SCALES = {scale.name: scale for scale in (SMALL, FULL)}


@dataclass(frozen=True)
class Variant:
    """A row's network: what differs from HFS-HNeRV as the program makes it by default.

    Attributes:
        model, block, train: fields of ModelConfig, HfscmSpec and TrainConfig.
        size, epochs: multiples of the scale's.
        all_but_last: only the last stage is without HFSCM, which else all have.
    """

    name: str
    label: str
    model: dict[str, Any] = field(default_factory=dict)
    block: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    size: float = 1.0
    epochs: int = 1
    all_but_last: bool = False

    def config(self, scale: Scale, clip: str, seed: int) -> EncodeConfig:
        described, params = scale.clip(clip)
        parts = PAPER_MODEL | self.model
        stages = len(choose_strides(*described.coded, parts.get("network", HNERV)))
        parts.setdefault("hfscm_stages", tuple(range(stages - self.all_but_last)))
        changes = {"seed": seed, "epochs": self.epochs * scale.train.epochs} | self.train
        model = ModelConfig(
            params=round(self.size * params),
            **parts | {"hfscm_spec": replace(PAPER_MODEL["hfscm_spec"], **self.block)},
        )
        return EncodeConfig(
            train=replace(scale.train, **changes),
            model=model,
            crop=described.crop,
            size=described.size,
            frames=described.frames,
            audio=False,
            subtitles=False,
        )


def plain(network: str, name: str, label: str, **changes: Any) -> Variant:
    """A network without HFS-HNeRV's parts and loss."""
    return Variant(name, label, PLAIN | {"network": network}, train={"hfs_weight": 0.0}, **changes)


HFS = Variant("hfs-hnerv", "HFS-HNeRV")
SIZES = ((0.5, "half"), (2.0, "double"))

NETWORKS = (
    plain(NERV, "nerv", "NeRV"),
    plain(E_NERV, "e-nerv", "E-NeRV"),
    plain(HNERV, "hnerv", "HNeRV"),
    HFS,
)
OTHER_SIZES = tuple(
    replace(variant, name=f"{variant.name}-{word}", label=f"{variant.label}, {size:g} x", size=size)
    for variant in NETWORKS
    for size, word in SIZES
)
REFERENCE = tuple(v for v in (*NETWORKS, *OTHER_SIZES) if v.name.startswith("hnerv"))
PARTS = (
    plain(HNERV, "hnerv", "HNeRV"),
    Variant("hfscm", "+ HFSCM", {"msfrp": False}, train={"hfs_weight": 0.0}),
    Variant("hfscm-msfrp", "+ HFSCM + MSFRP", train={"hfs_weight": 0.0}),
    Variant("hfs-hnerv", "+ HFSCM + MSFRP + HFS loss"),
)
INTEGRATED = tuple(
    Variant(f"hfs-{network}", f"{label} + HFSCM + MSFRP + HFS loss", {"network": network})
    for network, label in ((NERV, "NeRV"), (E_NERV, "E-NeRV"))
)
KERNELS = tuple(
    Variant(f"kernel-{k}" if k != 7 else HFS.name, f"attention kernel {k}", block={"kernel": k})
    for k in (3, 5, 7, 9)
)
CONVOLUTIONS = (
    Variant("extra-0", "no convolution after the attention", block={"extra_convs": 0}),
    Variant("extra-1", "one 3x3", block={"extra_convs": 1}),
    replace(HFS, label="two 3x3"),
    Variant("extra-1x1", "two 1x1", block={"extra_kernel": 1}),
)
ATTENTIONS = (
    replace(HFS, label="one map for all channels"),
    Variant("dense", "dense", block={"attention": Attention.DENSE}),
    Variant("grouped", "five groups", block={"attention": Attention.GROUPED}),
)
NORMS = (
    replace(HFS, label="no norm"),
    Variant("norm", "standardised before the GELU", block={"norm": True}),
)
STAGES = (
    replace(HFS, label="HFSCM in all stages"),
    Variant("not-last", "in all but the last", all_but_last=True),
    Variant("only-last", "in the last only", {"hfscm_stages": (-1,)}),
)
UPSAMPLINGS = (
    replace(HFS, label="PixelShuffle, HFSCM in all stages with k = 7"),
    Variant("shuffle-3", "the same with k = 3", {"largest_kernel": 3}, {"kernel": 3}),
    Variant(
        "bilinear",
        "bilinear after the first stage, k = 3",
        {"upsampling": BILINEAR, "largest_kernel": 3},
        {"kernel": 3},
    ),
    Variant(
        "bilinear-not-last",
        "and HFSCM in all but the last (the program's default)",
        {"upsampling": BILINEAR, "largest_kernel": 3},
        {"kernel": 3},
        all_but_last=True,
    ),
)
PHIS = (
    replace(HFS, label="Phi from 1, 1, 1, 1"),
    Variant("phi-details", "from 1, 2, 2, 2", train={"phi": (1.0, 2.0, 2.0, 2.0)}),
)
MSFRPS = (
    replace(HFS, label="MSFRP before tanh"),
    Variant("msfrp-after", "after tanh", {"msfrp_after": True}),
    Variant("no-msfrp", "without", {"msfrp": False}),
)
LOSSES = (
    Variant("hfscm-msfrp", "MSE alone", train={"hfs_weight": 0.0}),
    Variant("cutoff-2", "m = 2", train={"hfs_cutoff": 2}),
    replace(HFS, label="m = 17 x side / 640"),
    Variant("cutoff-9", "m = 9", train={"hfs_cutoff": 9}),
    Variant("cutoff-17", "m = 17", train={"hfs_cutoff": 17}),
)
EPOCHS = tuple(
    replace(variant, name=name, label=f"{variant.label}, {times} x epochs", epochs=times)
    for variant in NETWORKS[2:]
    for times, name in (
        (1, variant.name),
        (2, f"{variant.name}-epochs-2"),
        (4, f"{variant.name}-epochs-4"),
    )
)
