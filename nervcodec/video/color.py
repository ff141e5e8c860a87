"""Between Y'CbCr and RGB with the matrix and range said aloud; :mod:`.info` holds the tags.

swscale takes untagged input as BT.601 limited whatever its size, so nothing is left to it:
every call names both sides. Three of its faults are worked round here. Without the accurate
flags its 4:2:0 paths are off by up to two levels; RGB to full-range chroma is off by half a
level; and grey input is always taken as full range. Of more than 8 bits swscale only resamples
the chroma, at the depth that the samples have: from one depth to another it shifts some formats
and scales others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation

from nervcodec.bitstream.syntax import MATRICES
from nervcodec.samples import Frames, convert_depth, peak, sample_type
from nervcodec.video.info import UNSPECIFIED, ColorInfo

Floats = npt.NDArray[np.float32]

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
    """Whether frames of this format hold RGB, through a palette, or XYZ, which becomes RGB."""
    return pixel_format.is_rgb or pixel_format.has_palette or pixel_format.name.startswith("xyz")


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


def bits_of(pixel_format: VideoFormat) -> int:
    """Bits of the widest colour component; palettes and floats count as 8 and 16."""
    return min(16, max(8, *(c.bits for c in pixel_format.components if not c.is_alpha), 0))


def frame_to_rgb(frame: VideoFrame, color: ColorInfo, bit_depth: int = 8) -> Frames:
    """Decoded frame of any format to RGB (H, W, 3), full range, C-contiguous.

    Alpha is dropped. Samples are rounded to ``bit_depth``. Raises what PyAV raises.
    """
    if bit_depth > 8:
        return _deep_frame_to_rgb(frame, color, bit_depth)
    if _is_gray(frame.format) and not color.full_range:
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


def _is_gray(pixel_format: VideoFormat) -> bool:
    return pixel_format.name.startswith(("gray", "ya"))


def _deep_frame_to_rgb(frame: VideoFrame, color: ColorInfo, bit_depth: int) -> Frames:
    """The same in arithmetic of our own, at more than 8 bits."""
    bits = bits_of(frame.format)
    if is_rgb(frame.format):
        same_depth = _reformatted(frame, "gbrp" if bits == 8 else f"gbrp{bits}le", full=True)
        rgb = same_depth.to_ndarray().astype(sample_type(bits), copy=False)  # (H, W, 3)
        return np.ascontiguousarray(convert_depth(rgb, bits, bit_depth))
    suffix = "" if bits == 8 else f"{bits}le"
    kind = "gray" if _is_gray(frame.format) else "yuv444p"
    # Grey is taken as full range whatever is said, and both sides so taken it stays as it is.
    planes = _reformatted(frame, kind + suffix, full=color.full_range or kind == "gray")
    luma = _luma(samples_of(planes, 0, bits), bits, color.full_range)
    if kind == "gray":
        return np.repeat(_rounded(luma, bit_depth)[:, :, None], 3, axis=2)
    blue_chroma, red_chroma = (
        _chroma(samples_of(planes, index, bits), bits, color.full_range) for index in (1, 2)
    )
    weight_red, weight_blue = (np.float32(k) for k in _LUMA_WEIGHTS[color.matrix])
    red: Floats = luma + 2 * (1 - weight_red) * red_chroma
    blue: Floats = luma + 2 * (1 - weight_blue) * blue_chroma
    green: Floats = luma - weight_red * red - weight_blue * blue
    green /= 1 - weight_red - weight_blue
    return np.stack([_rounded(c, bit_depth) for c in (red, green, blue)], axis=2)


def _reformatted(frame: VideoFrame, pixel_format: str, *, full: bool) -> VideoFrame:
    """In another layout of the samples, their range left as it is."""
    if frame.format.name == pixel_format:
        return frame
    return frame.reformat(
        format=pixel_format,
        src_color_range=_range(full),
        dst_color_range=_range(full),
        interpolation=_FLAGS,
        threads=1,
    )


def samples_of(frame: VideoFrame, index: int, bits: int) -> Frames:
    """A view of one plane's samples, (rows, columns), without what pads its lines."""
    plane = frame.planes[index]
    lines: Frames = np.frombuffer(memoryview(plane), sample_type(bits))
    return lines.reshape(plane.height, -1)[:, : plane.width]


def _luma(codes: Frames, bits: int, full_range: bool) -> Floats:
    """E'_Y of H.273, 0 to 1, from the samples of Y'."""
    if full_range:
        return codes.astype(np.float32) / np.float32(peak(bits))
    scale = np.float32(1 << bits - 8)
    return (codes.astype(np.float32) - 16 * scale) / (219 * scale)


def _chroma(codes: Frames, bits: int, full_range: bool) -> Floats:
    """E'_PB or E'_PR of H.273, -1/2 to 1/2."""
    scale = np.float32(1 << bits - 8)
    return (codes.astype(np.float32) - 128 * scale) / (
        np.float32(peak(bits)) if full_range else 224 * scale
    )


def _rounded(values: Floats, bit_depth: int) -> Frames:
    """From 0..1, more and less cut off, to samples."""
    largest = np.float32(peak(bit_depth))
    return (np.clip(values, 0, 1) * largest + np.float32(0.5)).astype(sample_type(bit_depth))


def _limited_gray_to_rgb(frame: VideoFrame) -> Frames:
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


def rgb_to_frame(
    rgb: Frames, pixel_format: str, color: ColorInfo, bit_depth: int = 8
) -> VideoFrame:
    """RGB (H, W, 3) to a tagged frame of ``yuv420p`` or ``yuv444p``, ``bgr0`` or ``gbrp10le``.

    At 10 and 12 bits the names of the first two end in ``10le`` and ``12le``; the format must be
    of the depth of the samples. In RGB formats the samples are only moved, never changed.
    Raises what PyAV raises.
    """
    if bit_depth > 8:
        return _deep_rgb_to_frame(rgb, pixel_format, color, bit_depth)
    if color.full_range and pixel_format != "bgr0":
        planes = _rgb_to_ycbcr(rgb, color, 8)
        source = VideoFrame.from_ndarray(planes, format="yuv444p")
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
    return _tagged(frame, color, rgb=pixel_format == "bgr0")


def _tagged(frame: VideoFrame, color: ColorInfo, *, rgb: bool) -> VideoFrame:
    frame.colorspace = _RGB_MATRIX if rgb else color.matrix
    frame.color_range = _range(color.full_range or rgb)
    return frame


def _deep_rgb_to_frame(
    rgb: Frames, pixel_format: str, color: ColorInfo, bit_depth: int
) -> VideoFrame:
    if pixel_format.startswith("gbrp"):
        return _tagged(VideoFrame.from_ndarray(rgb, format=pixel_format), color, rgb=True)
    height, width = rgb.shape[:2]
    frame = VideoFrame(width, height, f"yuv444p{bit_depth}le")
    for index, samples in enumerate(_rgb_to_ycbcr(rgb, color, bit_depth)):
        samples_of(frame, index, bit_depth)[:] = samples
    return _tagged(_reformatted(frame, pixel_format, full=color.full_range), color, rgb=False)


def _rgb_to_ycbcr(rgb: Frames, color: ColorInfo, bit_depth: int) -> Frames:
    """RGB (H, W, 3) to Y'CbCr (3, H, W) of the same depth, each sample rounded to nearest."""
    weight_red, weight_blue = (np.float32(k) for k in _LUMA_WEIGHTS[color.matrix])
    red, green, blue = (rgb[..., c] / np.float32(peak(bit_depth)) for c in range(3))
    luma = weight_red * red + (1 - weight_red - weight_blue) * green + weight_blue * blue
    scale = np.float32(1 << bit_depth - 8)
    black = 0 if color.full_range else 16 * scale
    luma_range, chroma_range = (
        (peak(bit_depth), peak(bit_depth)) if color.full_range else (219 * scale, 224 * scale)
    )
    planes = np.empty((3, *luma.shape), sample_type(bit_depth))
    planes[0] = luma * luma_range + (black + np.float32(0.5))
    for plane, primary, weight in ((1, blue, weight_blue), (2, red, weight_red)):
        difference = (primary - luma) * (0.5 / (1 - weight))
        codes = difference * chroma_range + (128 * scale + np.float32(0.5))
        planes[plane] = np.minimum(codes, peak(bit_depth))
    return planes


def _range(full: bool) -> ColorRange:
    return ColorRange.JPEG if full else ColorRange.MPEG
