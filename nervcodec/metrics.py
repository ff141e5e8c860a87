"""How close decoded frames are to their reference; :mod:`nervcodec.compare` sets them beside rates.

Frames are RGB arrays of shape (H, W, 3), full range, or the three planes of Y'CbCr: uint8, or
uint16 at more than 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nervcodec.errors import UsageError
from nervcodec.samples import Frames, peak, sample_type

PSNR_CAP = 100.0
"""dB that a frame counts for at most in :class:`FrameStatistics`.

One identical frame would otherwise make the mean of a whole clip infinite. 100 dB is the usual
cap: nothing visible lies above some 60 dB, and the mean stays a number that JSON can hold.
"""

MS_SSIM_MIN_SIDE = 161
"""Five scales, halved four times, must still hold the 11 x 11 window: (11 - 1) * 2^4 + 1."""


YCBCR_WEIGHTS = (6, 1, 1)
"""Of the PSNR of Y', Cb and Cr in their mean, as JCT-VC and its successors weigh 4:2:0 video."""


def psnr(reference: Frames, decoded: Frames, bit_depth: int = 8) -> float:
    """PSNR in dB over all samples of two frames: 10 log10(peak^2 / MSE); inf for identical ones.

    The peak is the largest sample of that bit depth, 255 at 8 bits.
    Raises UsageError unless both are (H, W, 3) of one shape and of the type of that depth.
    """
    return _psnr_of_mse(_mean_squared_error(reference, decoded, bit_depth))


def ms_ssim(reference: Frames, decoded: Frames, bit_depth: int = 8) -> float | None:
    """Multi-scale SSIM of two RGB frames, 0 to 1, mean over the channels.

    None where it is not defined: a side below :data:`MS_SSIM_MIN_SIDE`. Source: Wang, Simoncelli
    and Bovik 2003, as in pytorch-msssim. Raises UsageError as :func:`psnr` does.
    """
    _check_pair(reference, decoded, bit_depth)
    if min(reference.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    # Imported here: PSNR alone, which most callers want, should not wait for torch.
    import pytorch_msssim
    import torch

    pair = np.stack([reference, decoded]).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        both = torch.from_numpy(np.ascontiguousarray(pair))  # (2, 3, H, W)
        return float(pytorch_msssim.ms_ssim(both[:1], both[1:], data_range=peak(bit_depth)))


def bits_per_pixel(file_bytes: int, width: int, height: int, frames: int) -> float:
    """Rate in bits per pixel of a file of ``file_bytes`` for ``frames`` of width x height.

    Raises UsageError for a negative size or no pixels.
    """
    if file_bytes < 0 or min(width, height, frames) < 1:
        raise UsageError(
            f"no bits per pixel for {file_bytes} bytes of {frames} frames of {width}x{height}"
        )
    return 8 * file_bytes / (width * height * frames)


class FrameStatistics:
    """The quality of a clip, gathered frame by frame in constant memory.

    Args:
        with_ms_ssim: False leaves MS-SSIM out, which takes most of the time.
        bit_depth: of the samples.

    The properties raise UsageError as long as no frame has been added.
    """

    def __init__(self, *, with_ms_ssim: bool = True, bit_depth: int = 8) -> None:
        self._with_ms_ssim = with_ms_ssim
        self._bit_depth = bit_depth
        self._frames = 0
        self._psnr_sum = 0.0
        self._mse_sum = 0.0
        self._ms_ssim_sum = 0.0
        self._ms_ssim_frames = 0
        self._lowest = (math.inf, -1)

    def add(self, reference: Frames, decoded: Frames) -> None:
        """Count one more frame, (H, W, 3) each; raises UsageError as :func:`psnr` does."""
        mse = _mean_squared_error(reference, decoded, self._bit_depth)
        frame_psnr = min(_psnr_of_mse(mse), PSNR_CAP)
        similarity = None
        if self._with_ms_ssim:
            similarity = ms_ssim(reference, decoded, self._bit_depth)
        if similarity is not None:
            self._ms_ssim_sum += similarity
            self._ms_ssim_frames += 1
        self._lowest = min(self._lowest, (frame_psnr, self._frames))
        self._psnr_sum += frame_psnr
        self._mse_sum += mse
        self._frames += 1

    def extend(self, later: FrameStatistics) -> None:
        """Count the frames of ``later`` after those counted so far."""
        self._lowest = min(self._lowest, (later._lowest[0], self._frames + later._lowest[1]))
        self._psnr_sum += later._psnr_sum
        self._mse_sum += later._mse_sum
        self._ms_ssim_sum += later._ms_ssim_sum
        self._ms_ssim_frames += later._ms_ssim_frames
        self._frames += later._frames

    @property
    def frames(self) -> int:
        """How many frames have been added."""
        return self._frames

    @property
    def psnr(self) -> float:
        """Mean of the frames' RGB PSNR in dB, each at most :data:`PSNR_CAP`.

        This is what HNeRV and its successors report.
        """
        return self._psnr_sum / self._counted()

    @property
    def psnr_of_mean_mse(self) -> float:
        """PSNR in dB of the clip's mean squared error, at most :data:`PSNR_CAP`.

        Never above the uncapped mean PSNR; a few bad frames weigh more.
        """
        return min(_psnr_of_mse(self._mse_sum / self._counted()), PSNR_CAP)

    @property
    def ms_ssim(self) -> float | None:
        """Mean MS-SSIM; None if it was left out or is not defined for a frame of this size."""
        if self._ms_ssim_frames < self._counted():
            return None
        return self._ms_ssim_sum / self._ms_ssim_frames

    @property
    def lowest_psnr(self) -> float:
        """PSNR in dB of the worst frame, at most :data:`PSNR_CAP`."""
        self._counted()
        return self._lowest[0]

    @property
    def lowest_psnr_frame(self) -> int:
        """Index of the worst frame, from 0 in the order of adding; the first of equals."""
        self._counted()
        return self._lowest[1]

    def _counted(self) -> int:
        if not self._frames:
            raise UsageError("no frame has been compared yet")
        return self._frames


class YcbcrStatistics:
    """The PSNR of Y', Cb and Cr of a clip, gathered frame by frame.

    The peak is the largest sample of ``bit_depth``, in limited range too, as everywhere. The
    properties raise UsageError as long as no frame has been added.
    """

    def __init__(self, bit_depth: int = 8) -> None:
        self._bit_depth = bit_depth
        self._frames = 0
        self._sums = [0.0, 0.0, 0.0]

    def add(self, reference: Sequence[Frames], decoded: Sequence[Frames]) -> None:
        """Count one more frame, three planes (H, W) each, the last two of any common size.

        Raises UsageError unless both are of the same shapes and of the type of that depth.
        """
        wanted = sample_type(self._bit_depth)
        for pair in zip(reference, decoded, strict=True):
            if pair[0].shape != pair[1].shape or {plane.dtype for plane in pair} != {wanted}:
                shapes = " and ".join(f"{plane.dtype} {plane.shape}" for plane in pair)
                raise UsageError(f"planes to compare must be {wanted} of one shape, not {shapes}")
        for index, pair in enumerate(zip(reference, decoded, strict=True)):
            mse = _normalized_mse(*pair, self._bit_depth)
            self._sums[index] += min(_psnr_of_mse(mse), PSNR_CAP)
        self._frames += 1

    @property
    def components(self) -> tuple[float, float, float]:
        """PSNR in dB of Y', Cb and Cr: means over the frames, each at most :data:`PSNR_CAP`."""
        if not self._frames:
            raise UsageError("no frame has been compared yet")
        luma, blue, red = (total / self._frames for total in self._sums)
        return luma, blue, red

    @property
    def psnr(self) -> float:
        """The components' mean in dB, weighted 6:1:1."""
        weighted = (w * psnr for w, psnr in zip(YCBCR_WEIGHTS, self.components, strict=True))
        return sum(weighted) / sum(YCBCR_WEIGHTS)


def _psnr_of_mse(mse: float) -> float:
    """From the mean squared error of samples in 0..1."""
    return -10 * math.log10(mse) if mse > 0 else math.inf


def _mean_squared_error(reference: Frames, decoded: Frames, bit_depth: int) -> float:
    """Of RGB samples scaled to 0..1."""
    _check_pair(reference, decoded, bit_depth)
    return _normalized_mse(reference, decoded, bit_depth)


def _normalized_mse(reference: Frames, decoded: Frames, bit_depth: int) -> float:
    difference = np.subtract(reference, decoded, dtype=np.int32)
    # Numpy sums the mean of integers in float64.
    return float(np.mean(np.square(difference))) / peak(bit_depth) ** 2


def _check_pair(reference: Frames, decoded: Frames, bit_depth: int) -> None:
    wanted = sample_type(bit_depth)
    for frame in (reference, decoded):
        if frame.dtype != wanted or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise UsageError(
                f"a frame to compare must be {wanted} (H, W, 3), not {frame.dtype} {frame.shape}"
            )
    if reference.shape != decoded.shape:
        raise UsageError(f"frames to compare differ: {reference.shape} and {decoded.shape}")
