"""Which rows each table has, and the paper's own numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tools.paper_tables import experiments
from tools.paper_tables.experiments import Variant


@dataclass(frozen=True)
class Table:
    """Rows, and the paper's PSNR in dB on Bunny at 1280x640 for those that it has."""

    title: str
    rows: tuple[Variant, ...]
    paper: Mapping[str, float] = field(default_factory=dict)


TABLES = {
    "reference": Table("HNeRV's curve, against which gains are counted", experiments.REFERENCE),
    "networks": Table(
        "The networks at one size (paper: 1.5 M, 300 epochs)",
        experiments.NETWORKS,
        {"nerv": 30.87, "e-nerv": 32.09, "hnerv": 35.57, "hfs-hnerv": 36.62},
    ),
    "parts": Table(
        "HFS-HNeRV part by part",
        experiments.PARTS,
        {"hnerv": 35.57, "hfscm": 36.36, "hfscm-msfrp": 36.38, "hfs-hnerv": 36.62},
    ),
    "convolutions": Table(
        "Convolutions after the attention (paper: table 4)",
        experiments.CONVOLUTIONS,
        {"extra-1": 35.95, "hfs-hnerv": 36.62},
    ),
    "attention": Table("Reading of the spatial attention", experiments.ATTENTIONS),
    "norm": Table("Norm before the attention's GELU", experiments.NORMS),
    "stages": Table("Which stages carry HFSCM", experiments.STAGES),
    "upsampling": Table("What enlarges the maps", experiments.UPSAMPLINGS),
    "phi": Table("Initial weights of the wavelet bands", experiments.PHIS),
    "msfrp": Table("Where MSFRP is added", experiments.MSFRPS),
    "loss": Table("Cut-off of the HFS loss", experiments.LOSSES),
    "kernels": Table("Kernel of the spatial attention (paper: table 2)", experiments.KERNELS),
    "integrated": Table("The parts in the other networks", experiments.INTEGRATED),
    "sizes": Table(
        "Half and double the parameters (paper: 0.75 M and 3 M)",
        experiments.OTHER_SIZES,
        {
            "nerv-half": 28.46,
            "nerv-double": 33.21,
            "e-nerv-half": 30.95,
            "e-nerv-double": 36.72,
            "hnerv-half": 32.81,
            "hnerv-double": 37.43,
            "hfs-hnerv-half": 34.17,
            "hfs-hnerv-double": 38.82,
        },
    ),
    "epochs": Table(
        "Longer schedules (paper: 300, 600, 1200 epochs)",
        experiments.EPOCHS,
        {
            "hnerv": 35.57,
            "hnerv-epochs-2": 36.19,
            "hnerv-epochs-4": 36.93,
            "hfs-hnerv": 36.62,
            "hfs-hnerv-epochs-2": 37.37,
            "hfs-hnerv-epochs-4": 37.89,
        },
    ),
}
