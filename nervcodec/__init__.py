"""nervcodec: a video becomes a small neural network in a ``.hfsv`` file.

The public face of the library. numpy, torch and PyAV are imported only when something needs them,
so that asking a file for its properties stays quick::

    import nervcodec

    nervcodec.encode("in.mp4", "out.hfsv", nervcodec.EncodeConfig())
    with nervcodec.open("out.hfsv") as clip:
        first = clip[0]          # uint8, (height, width, 3)
    nervcodec.decode("out.hfsv", "out.mp4")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nervcodec.errors import (
    BitstreamError,
    CheckpointError,
    HfsvError,
    InputVideoError,
    InterruptedEncode,
    LimitError,
    OutputError,
    OutputExistsError,
    TargetError,
    UnsupportedError,
    UsageError,
)
from nervcodec.version import __version__

if TYPE_CHECKING:
    from nervcodec.bitstream.tensors import Limits
    from nervcodec.clip import HfsvFile
    from nervcodec.clip import HfsvFile as open
    from nervcodec.config import EncodeConfig, ModelConfig, RawFormat, TrainConfig
    from nervcodec.decoder import DecodeConfig, DecodeReport, decode
    from nervcodec.encoder import encode
    from nervcodec.estimator import EncodeEstimate, estimate
    from nervcodec.improver import ImproveConfig, ImproveReport, improve
    from nervcodec.info import FileInfo, probe
    from nervcodec.loader import FrameDataset
    from nervcodec.reports import EncodeProgress, EncodeReport
    from nervcodec.verification import DamageReport, VerifyReport, examine, verify

__all__ = [
    "BitstreamError",
    "CheckpointError",
    "DamageReport",
    "DecodeConfig",
    "DecodeReport",
    "EncodeConfig",
    "EncodeEstimate",
    "EncodeProgress",
    "EncodeReport",
    "FileInfo",
    "FrameDataset",
    "HfsvError",
    "HfsvFile",
    "ImproveConfig",
    "ImproveReport",
    "InputVideoError",
    "InterruptedEncode",
    "LimitError",
    "Limits",
    "ModelConfig",
    "OutputError",
    "OutputExistsError",
    "RawFormat",
    "TargetError",
    "TrainConfig",
    "UnsupportedError",
    "UsageError",
    "VerifyReport",
    "__version__",
    "decode",
    "encode",
    "estimate",
    "examine",
    "improve",
    "open",
    "probe",
    "verify",
]

_LAZY = {
    "EncodeConfig": ("nervcodec.config", "EncodeConfig"),
    "Limits": ("nervcodec.bitstream.tensors", "Limits"),
    "ModelConfig": ("nervcodec.config", "ModelConfig"),
    "RawFormat": ("nervcodec.config", "RawFormat"),
    "TrainConfig": ("nervcodec.config", "TrainConfig"),
    "DecodeConfig": ("nervcodec.decoder", "DecodeConfig"),
    "DecodeReport": ("nervcodec.decoder", "DecodeReport"),
    "FrameDataset": ("nervcodec.loader", "FrameDataset"),
    "HfsvFile": ("nervcodec.clip", "HfsvFile"),
    "DamageReport": ("nervcodec.verification", "DamageReport"),
    "VerifyReport": ("nervcodec.verification", "VerifyReport"),
    "examine": ("nervcodec.verification", "examine"),
    "decode": ("nervcodec.decoder", "decode"),
    "verify": ("nervcodec.verification", "verify"),
    "open": ("nervcodec.clip", "HfsvFile"),
    "EncodeProgress": ("nervcodec.reports", "EncodeProgress"),
    "EncodeReport": ("nervcodec.reports", "EncodeReport"),
    "encode": ("nervcodec.encoder", "encode"),
    "EncodeEstimate": ("nervcodec.estimator", "EncodeEstimate"),
    "estimate": ("nervcodec.estimator", "estimate"),
    "FileInfo": ("nervcodec.info", "FileInfo"),
    "ImproveConfig": ("nervcodec.improver", "ImproveConfig"),
    "ImproveReport": ("nervcodec.improver", "ImproveReport"),
    "improve": ("nervcodec.improver", "improve"),
    "probe": ("nervcodec.info", "probe"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)
