"""The training loss: mean squared error and the paper's high-frequency term; weights of frames.

:mod:`nervcodec.training.trainer` minimises it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

REFERENCE_CUTOFF = 17
REFERENCE_SIDE = 640
"""The paper's m = 17 belongs to frames of 1280x640."""


LARGEST_WEIGHT = 4.0
"""A frame counts for so many times as much as others at most, or as little."""

LEAST_ERROR = 1e-7
"""Mean squared error of 70 dB, which is taken for the least."""


def default_cutoff(width: int, height: int) -> int:
    """m scaled with the shorter side, so that the same share of the spectrum is left out."""
    return max(1, round(REFERENCE_CUTOFF * min(width, height) / REFERENCE_SIDE))


class SpectrumLoss:
    """MSE + weight * MSE between the high-pass filtered frames (paper section 3.4).

    The filter is FFT2, centred, zero where |f_y| < m and |f_x| < m, times ``gain``, inverse
    FFT. It is linear, so it may be applied to the difference D of the frames, and by Parseval
    the filtered energy is D's energy less that of the (2m-1)^2 lowest frequencies::

        loss = (1 + weight * gain^2) * mean(D^2) - weight * gain^2 * E_low

    E_low needs a few dozen Fourier coefficients only, which two small matrix products give.

    Args:
        width, height: size of the frames.
        weight: beta of the paper; 0 leaves plain MSE.
        gain: g of the paper.
        cutoff: m of the paper; None for :func:`default_cutoff`.
    """

    def __init__(
        self,
        width: int,
        height: int,
        weight: float = 0.12,
        gain: float = 3.0,
        cutoff: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        m = default_cutoff(width, height) if cutoff is None else cutoff
        self.factor = weight * gain**2
        rows = _frequencies(height, m)
        columns = [f for f in _frequencies(width, m) if 0 <= f <= width // 2]
        self._rows = _fourier(rows, height).to(device)  # (2, R, H)
        self._columns = _fourier(columns, width).to(device)  # (2, K, W)
        # A real picture's spectrum is symmetric: the frequency -f adds as much as f.
        twice = [1.0 if f == 0 or 2 * f == width else 2.0 for f in columns]
        self._multiplicity = torch.tensor(twice, device=device)  # (K,)
        self._scale = 1.0 / (width * height) ** 2

    def low_energy(self, difference: Tensor) -> Tensor:
        """Energy of each frame's frequencies below the cutoff, (B,); of (B, C, H, W), a mean."""
        by_row = self._rows @ difference.unsqueeze(2)
        cosine, sine = by_row.unbind(dim=2)  # (B, C, R, W)
        c, s = (part.transpose(0, 1) for part in self._columns)  # (W, K)
        re = cosine @ c - sine @ s
        im = cosine @ s + sine @ c
        energy = (re.square() + im.square()) * self._multiplicity
        low: Tensor = energy.sum(dim=(2, 3)).mean(dim=1) * self._scale
        return low

    def __call__(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Each frame's loss and its mean squared error, (B,); frames are (B, C, H, W) in 0..1."""
        difference = prediction - target
        mse = difference.square().mean(dim=(1, 2, 3))
        if self.factor == 0.0:
            return mse, mse
        return (1.0 + self.factor) * mse - self.factor * self.low_energy(difference), mse


class FrameWeights:
    """What each frame's loss counts for, so that the mean of the frames' PSNR is what grows.

    A frame's PSNR is the logarithm of its error, whose gradient is the error's divided by the
    error itself: the loss of a frame counts as much as the mean error of all, as last seen, is
    times its own. Where bits are priced, their price stays that of a frame of mean error.
    """

    def __init__(self, frames: int, device: torch.device | None = None) -> None:
        self._frames = frames
        self.mean = torch.zeros((), device=device)
        """Mean error, 0 as long as none was seen."""

    def __call__(self, errors: Tensor) -> Tensor:
        """Weights of the frames of one batch, from their errors (B,)."""
        errors = errors.detach().clamp_min(LEAST_ERROR)
        average = errors.mean()
        lag = min(1.0, len(errors) / self._frames)
        self.mean.copy_(torch.where(self.mean > 0, self.mean.lerp(average, lag), average))
        return (self.mean / errors).clamp(1 / LARGEST_WEIGHT, LARGEST_WEIGHT)


def _frequencies(length: int, m: int) -> list[int]:
    """Distinct frequency indices f with |f| < m in a transform of ``length`` points."""
    low = max(-m + 1, -((length - 1) // 2))
    high = min(m - 1, length // 2)
    return list(range(low, high + 1))


def _fourier(frequencies: list[int], length: int) -> Tensor:
    """Cosines and sines of the frequencies: (2, frequencies, length), exact in float64 first."""
    f = torch.tensor(frequencies, dtype=torch.float64)[:, None]
    angle = 2 * math.pi / length * (f * torch.arange(length, dtype=torch.float64) % length)
    return torch.stack([angle.cos(), angle.sin()]).float()
