"""What an HDR video says of the display that it was mastered on, and of its light levels.

:mod:`.probing` reads it, META carries it, :mod:`.writer` tells it to x264 and x265.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

_CHROMATICITY_UNITS = 50000
_LUMINANCE_UNITS = 10000
_RATIONALS = 10
"""Numbers in FFmpeg's AVMasteringDisplayMetadata, each a numerator and a denominator of 32 bits;
two flags follow, for chromaticities and luminances."""

_MAX_U16, _MAX_U32 = (1 << 16) - 1, (1 << 32) - 1


@dataclass(frozen=True)
class HdrInfo:
    """Static HDR metadata.

    Attributes:
        mastering_display: SMPTE ST 2086, in its units: x and y of red, green, blue and white in
            1/50000, then the largest and the smallest luminance in 1/10000 cd/m2.
        content_light: CTA-861.3, MaxCLL and MaxFALL in cd/m2.
    """

    mastering_display: tuple[int, ...] | None = None
    content_light: tuple[int, int] | None = None

    def to_meta(self) -> dict[str, list[int]]:
        """META's keys for what there is."""
        fields = vars(self).items()
        return {name: list(values) for name, values in fields if values is not None}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> HdrInfo:
        """From a META map; what is not as the format has it is left out."""
        display, light = meta.get("mastering_display"), meta.get("content_light")
        return cls(
            tuple(display) if _are_integers(display, _RATIONALS, _MAX_U32) else None,
            (light[0], light[1]) if _are_integers(light, 2, _MAX_U16) else None,
        )

    def options(self, codec: str) -> list[str]:
        """The parameters that tell it to x264 (``h264``) or x265 (``hevc``)."""
        display, light = _OPTIONS[codec]
        lines = []
        if self.mastering_display is not None:
            red, green, blue, white, luminance = (
                "({},{})".format(*self.mastering_display[at : at + 2]) for at in range(0, 10, 2)
            )
            lines.append(f"{display}=G{green}B{blue}R{red}WP{white}L{luminance}")
        if self.content_light is not None:
            lines.append(f"{light}={self.content_light[0]},{self.content_light[1]}")
        return lines


NO_HDR = HdrInfo()

_OPTIONS = {"h264": ("mastering-display", "cll"), "hevc": ("master-display", "max-cll")}


def _are_integers(value: object, count: int, largest: int) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or [type(item) for item in value] != [int] * count:
        return False
    return all(0 <= item <= largest for item in value)


def side_data_of(frame: VideoFrame) -> Mapping[object, SideData]:
    """What comes with a frame; nothing where PyAV meets a kind that it does not know, as EXIF."""
    try:
        # PyAV's stub knows one of the kinds of side data only.
        return cast(SideDataContainer, frame.side_data)
    except ValueError:
        return {}


def hdr_info(frame: VideoFrame) -> HdrInfo:
    """What a decoded frame carries; numbers that mean nothing are left out."""
    side_data = side_data_of(frame)
    display = light = None
    if SideDataType.MASTERING_DISPLAY_METADATA in side_data:
        display = _mastering_display(bytes(side_data[SideDataType.MASTERING_DISPLAY_METADATA]))
    if SideDataType.CONTENT_LIGHT_LEVEL in side_data:
        levels = np.frombuffer(bytes(side_data[SideDataType.CONTENT_LIGHT_LEVEL]), np.uint32)[:2]
        light = (int(levels[0]), int(levels[1])) if 0 < levels.max() <= _MAX_U16 else None
    return HdrInfo(display, light)


def _mastering_display(data: bytes) -> tuple[int, ...] | None:
    numbers = np.frombuffer(data, np.int32)
    has_chromaticities, has_luminances = numbers[2 * _RATIONALS : 2 * _RATIONALS + 2]
    if not (has_chromaticities and has_luminances) or (numbers[1 : 2 * _RATIONALS : 2] <= 0).any():
        return None
    values = numbers[0 : 2 * _RATIONALS : 2] / numbers[1 : 2 * _RATIONALS : 2]
    units = np.array([_CHROMATICITY_UNITS] * 8 + [_LUMINANCE_UNITS] * 2)
    # FFmpeg gives the smallest luminance first.
    display = np.rint(values * units).astype(np.int64)[[*range(8), 9, 8]]
    return tuple(display.tolist()) if (display >= 0).all() else None
