"""Overfits one network to one segment's frames; the result still has float weights.

:mod:`nervcodec.training.quantization` makes symbols of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import EMBEDDING
from nervcodec.config import TrainConfig
from nervcodec.errors import HfsvError
from nervcodec.models.blocks import channels_last
from nervcodec.models.content_encoder import ContentEncoder
from nervcodec.models.hnerv import HnervDecoder
from nervcodec.training.losses import SpectrumLoss

WARMUP_START = 0.1
REPORT_SECONDS = 0.2
"""How often the progress callback is called at most."""


@dataclass(frozen=True)
class TrainProgress:
    """State of a training, for display.

    Attributes:
        psnr: mean over the current epoch's frames so far, from the training passes, in dB.
        loss: of the latest step.
        seconds_per_step: over the steps since the start, waiting for the callback left out.
        eta: seconds left for this segment.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    psnr: float
    loss: float
    seconds_per_step: float
    eta: float


ProgressCallback = Callable[[TrainProgress], None]


@dataclass(frozen=True)
class TrainedNetwork:
    """Float tensors by name as the format lists them, and the float network's mean RGB PSNR."""

    tensors: dict[str, npt.NDArray[np.float32]]
    psnr: float


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Rate of ``step`` (0-based) of ``steps``: linear warm-up, then a cosine to 0."""
    warmup = config.warmup * steps
    if step < warmup:
        factor = WARMUP_START + (1 - WARMUP_START) * step / warmup
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    return config.learning_rate * factor


class Trainer:
    """Trains content encoder and decoder on frames held as uint8.

    Args:
        frames: (N, H, W, 3) uint8.
        spec: the network's shape.
        config: the schedule.
        device: where to train; the frames are moved there once.
    """

    def __init__(
        self,
        frames: npt.NDArray[np.uint8],
        spec: ModelSpec,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        count, height, width, _ = frames.shape
        self._config = config
        self._device = device
        self._frames = torch.from_numpy(frames).to(device)
        # One generator on the CPU: the same seed gives the same order on every device.
        self._generator = torch.Generator().manual_seed(config.seed)
        # All generators are put back, the GPUs' too, which manual_seed would set.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(config.seed)
            encoder = ContentEncoder(spec, width, height)
            decoder = HnervDecoder(spec, width, height)
        self._encoder, self._decoder = encoder.to(device), decoder.to(device)
        channels_last(self._encoder)
        channels_last(self._decoder)
        self._loss = SpectrumLoss(
            width, height, config.hfs_weight, config.hfs_gain, config.hfs_cutoff, device
        )
        self._steps = config.epochs * -(-count // config.batch)
        self._optimizer = torch.optim.Adam(
            [*encoder.parameters(), *decoder.parameters()],
            betas=(config.beta1, config.beta2),
            fused=True,
        )

    def train(self, progress: ProgressCallback | None = None) -> TrainedNetwork:
        """Run the whole schedule and return the network as it stands at the end."""
        step, started, reported = 0, time.perf_counter(), 0.0
        waited = 0.0
        for epoch in range(self._config.epochs):
            squared_errors: list[Tensor] = []
            for indices in self._batches():
                loss, errors = self._step(step, indices)
                squared_errors.append(errors)
                step += 1
                now = time.perf_counter()
                if progress is None or (now - reported < REPORT_SECONDS and step < self._steps):
                    continue
                pace = (now - started - waited) / step
                progress(
                    TrainProgress(
                        epoch=epoch + 1,
                        epochs=self._config.epochs,
                        step=step,
                        steps=self._steps,
                        psnr=_mean_psnr(torch.cat(squared_errors)),
                        loss=float(loss),
                        seconds_per_step=pace,
                        eta=pace * (self._steps - step),
                    )
                )
                reported = time.perf_counter()
                waited += reported - now
        return self._result()

    def _batches(self) -> Iterator[Tensor]:
        """Indices of one epoch's frames, shuffled, in batches."""
        order = torch.randperm(len(self._frames), generator=self._generator)
        return iter(torch.split(order, self._config.batch))

    def _targets(self, indices: Tensor) -> Tensor:
        """Frames as float32 in 0..1, (B, 3, H, W), channels last in memory."""
        batch = self._frames[indices.to(self._device)]
        return batch.permute(0, 3, 1, 2).float().div_(255.0)

    def _step(self, step: int, indices: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step; the loss and each frame's mean squared error."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(step, self._steps, self._config)
        target = self._targets(indices)
        prediction = self._decoder(self._encoder(target))
        loss = self._loss(prediction, target)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        errors = (prediction.detach() - target).square().mean(dim=(1, 2, 3))
        return loss.detach(), errors

    @torch.no_grad()
    def _result(self) -> TrainedNetwork:
        embeddings, errors = [], []
        for indices in torch.split(torch.arange(len(self._frames)), self._config.batch):
            target = self._targets(indices)
            embedding = self._encoder(target)
            rounded = (self._decoder(embedding) * 255.0).round_().div_(255.0)
            errors.append((rounded - target).square().mean(dim=(1, 2, 3)))
            embeddings.append(embedding)
        tensors = {EMBEDDING: _array(torch.cat(embeddings))}
        tensors |= {name: _array(p) for name, p in self._decoder.named_parameters()}
        if not all(np.isfinite(values).all() for values in tensors.values()):
            raise HfsvError("the training diverged: lower the learning rate (--lr)")
        return TrainedNetwork(tensors, _mean_psnr(torch.cat(errors)))


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return tensor.detach().contiguous().cpu().numpy()


def _mean_psnr(squared_errors: Tensor) -> float:
    """Mean of the frames' PSNR in dB, each at most 100."""
    return float((-10 * squared_errors.clamp_min(1e-10).log10()).mean())
