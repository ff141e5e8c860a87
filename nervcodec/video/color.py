"""Between Y'CbCr and RGB with the matrix and range said aloud; :mod:`.info` holds the tags.

swscale takes untagged input as BT.601 limited whatever its size, so nothing is left to it:
every call names both sides. Three of its faults are worked round here. Without the accurate
flags its 4:2:0 paths are off by up to two levels; RGB to full-range chroma is off by half a
level; and grey input is always taken as full range.
"""

from __future__ import annotations

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

from nervcodec.bitstream.syntax import MATRICES
from nervcodec.video.info import UNSPECIFIED, ColorInfo

HD_HEIGHT = 720
"""From this height on untagged video is taken as BT.709, below as BT.601, as players do."""

_BT709, _SMPTE170M, _BT2020_NCL, _BT2020_CL = 1, 6, 9, 10
_RGB_MATRIX, _RESERVED_MATRIX = 0, 3

_FLAGS = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INT
)

_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""K_R and K_B of each matrix (H.273, table 4)."""

_SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""H.273 matrix to swscale's SWS_CS number."""


def is_rgb(pixel_format: VideoFormat) -> bool:
    """Whether frames of this format hold RGB, directly or through a palette."""
    return pixel_format.is_rgb or pixel_format.has_palette


def can_convert(matrix: int, pixel_format: VideoFormat) -> bool:
    """Whether pictures tagged with H.273 ``matrix`` can be turned into RGB."""
    undecided = (_RGB_MATRIX, UNSPECIFIED, _RESERVED_MATRIX, _BT2020_CL)
    return is_rgb(pixel_format) or matrix in MATRICES or matrix in undecided


def decide_color(
    tags: tuple[int, int, int, int], pixel_format: VideoFormat, height: int
) -> ColorInfo:
    """The colour of a source from its tags (primaries, transfer, matrix, range; 0 range: none).

    An untagged matrix is BT.709 from :data:`HD_HEIGHT` lines on, else BT.601. An untagged range
    is limited, except for ``yuvj`` formats and RGB. RGB sources get a matrix by the same rule,
    since what is decoded from the .hfsv is written as Y'CbCr.
    """
    primaries, transfer, matrix, color_range = tags
    rgb = is_rgb(pixel_format)
    by_rule = _BT709 if height >= HD_HEIGHT else _SMPTE170M
    if matrix == _BT2020_CL:
        matrix = _BT2020_NCL
    matrix_known = not rgb and matrix in MATRICES
    full_by_format = rgb or pixel_format.name.startswith("yuvj")
    range_known = full_by_format or color_range in (ColorRange.MPEG, ColorRange.JPEG)
    return ColorInfo(
        primaries=primaries or UNSPECIFIED,
        transfer=transfer or UNSPECIFIED,
        matrix=matrix if matrix_known else by_rule,
        full_range=full_by_format or color_range == ColorRange.JPEG,
        assumed=not rgb and not (matrix_known and range_known),
    )


def frame_to_rgb(frame: VideoFrame, color: ColorInfo) -> NDArray[np.uint8]:
    """Decoded frame of any format to uint8 (H, W, 3) RGB, full range, C-contiguous.

    Alpha is dropped, more than 8 bits are rounded to 8. Raises what PyAV raises.
    """
    if frame.format.name.startswith(("gray", "ya")) and not color.full_range:
        return _limited_gray_to_rgb(frame)
    rgb_source = is_rgb(frame.format)
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=None if rgb_source else _SWSCALE_MATRIX[color.matrix],
        src_color_range=_range(color.full_range or rgb_source),
        dst_color_range=ColorRange.JPEG,
        interpolation=_FLAGS,
        threads=1,
    )
    return np.ascontiguousarray(converted.to_ndarray(), dtype=np.uint8)


def _limited_gray_to_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """Grey with black at 16 and white at 235, which swscale would show washed out."""
    bits = frame.format.components[0].bits
    gray = frame.reformat(
        format="gray" if bits == 8 else "gray16le",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_FLAGS,
        threads=1,
    ).to_ndarray()  # (H, W)
    levels = 256 if bits == 8 else 65536
    code = np.arange(levels) / (levels - 1) * (2**bits - 1) / 2 ** (bits - 8)  # 8-bit scale
    table = np.clip((code - 16) * 255 / 219 + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(table[gray][:, :, None], 3, axis=2)


def rgb_to_frame(rgb: NDArray[np.uint8], pixel_format: str, color: ColorInfo) -> VideoFrame:
    """uint8 (H, W, 3) RGB to a tagged frame of ``yuv420p``, ``yuv444p`` or ``bgr0``.

    For ``bgr0`` the samples are only moved, never changed. Raises what PyAV raises.
    """
    if color.full_range and pixel_format != "bgr0":
        source = VideoFrame.from_ndarray(_rgb_to_full_range(rgb, color.matrix), format="yuv444p")
        source_matrix: int | None = _SWSCALE_MATRIX[color.matrix]
    else:
        source = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        source_matrix = None
    frame = source.reformat(
        format=pixel_format,
        src_colorspace=source_matrix,
        dst_colorspace=None if pixel_format == "bgr0" else _SWSCALE_MATRIX[color.matrix],
        src_color_range=ColorRange.JPEG,
        dst_color_range=_range(color.full_range or pixel_format == "bgr0"),
        interpolation=_FLAGS,
        threads=1,
    )
    frame.colorspace = _RGB_MATRIX if pixel_format == "bgr0" else color.matrix
    frame.color_range = _range(color.full_range or pixel_format == "bgr0")
    return frame


def _rgb_to_full_range(rgb: NDArray[np.uint8], matrix: int) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) RGB to uint8 (3, H, W) full-range Y'CbCr, each rounded to nearest."""
    weight_red, weight_blue = (np.float32(k) for k in _LUMA_WEIGHTS[matrix])
    red, green, blue = (rgb[..., c].astype(np.float32) for c in range(3))
    luma = weight_red * red + (1 - weight_red - weight_blue) * green + weight_blue * blue
    planes = np.empty((3, *luma.shape), np.uint8)
    planes[0] = luma + np.float32(0.5)
    planes[1] = np.minimum((blue - luma) * (0.5 / (1 - weight_blue)) + 128.5, 255)
    planes[2] = np.minimum((red - luma) * (0.5 / (1 - weight_red)) + 128.5, 255)
    return planes


def _range(full: bool) -> ColorRange:
    return ColorRange.JPEG if full else ColorRange.MPEG
