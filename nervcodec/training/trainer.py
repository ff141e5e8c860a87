"""Overfits one network to one segment's frames; the result still has float weights.

:mod:`nervcodec.training.quantization` makes symbols of it, :mod:`nervcodec.training.checkpoint`
keeps the state between two steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import EMBEDDING
from nervcodec.config import TrainConfig
from nervcodec.errors import CheckpointError, HfsvError
from nervcodec.models.blocks import channels_last
from nervcodec.models.content_encoder import ContentEncoder
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.models.positions import frame_times
from nervcodec.samples import Frames, peak, sample_type
from nervcodec.training.checkpoint import Floats, TrainerState
from nervcodec.training.losses import SpectrumLoss

WARMUP_START = 0.1
REPORT_SECONDS = 0.2
"""How often the progress callback is called at most."""

AVERAGED_SHARE = 0.25
"""Share of an epoch over which the weights of a stopped training are averaged. At high learning
rates single weights are noisy: on carphone the average gained 0.2 to 1.0 dB."""

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's own names of its two moments."""


@dataclass(frozen=True)
class TrainProgress:
    """State of a training, for display.

    Attributes:
        psnr: mean over the current epoch's frames so far, from the training passes, in dB.
        loss: of the latest step.
        seconds_per_step: over the steps since this run's start, waiting for the callback left out.
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
Proceed = Callable[[], bool]


@dataclass(frozen=True)
class TrainedNetwork:
    """Float tensors by name as the format lists them.

    ``psnr`` is the float network's mean RGB PSNR; None if the training was stopped, when
    measuring would only keep the user waiting.
    """

    tensors: dict[str, npt.NDArray[np.float32]]
    psnr: float | None


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Rate of ``step`` (0-based) of ``steps``: linear warm-up, then a cosine to 0."""
    warmup = config.warmup * steps
    if step < warmup:
        factor = WARMUP_START + (1 - WARMUP_START) * step / warmup
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    return config.learning_rate * factor


class Trainer:
    """Trains a decoder, and HNeRV's content encoder, on frames held as integers.

    Args:
        frames: (N, H, W, 3), see :data:`nervcodec.samples.Frames`.
        spec: the network's shape.
        config: the schedule.
        device: where to train; the frames are moved there once.
        bit_depth: of the frames' samples.
    """

    def __init__(
        self,
        frames: Frames,
        spec: ModelSpec,
        config: TrainConfig,
        device: torch.device,
        bit_depth: int = 8,
    ) -> None:
        count, height, width, _ = frames.shape
        self._config = config
        self._device = device
        self._peak = float(peak(bit_depth))
        self._sample_type = sample_type(bit_depth)
        # Torch computes little with uint16; the samples fit int16.
        samples = frames if bit_depth == 8 else frames.view(np.int16)
        self._frames = torch.from_numpy(samples).to(device)
        self._epoch_steps: int = -(-count // config.batch)
        self._steps: int = config.epochs * self._epoch_steps
        self._step_number = 0
        # One generator on the CPU: the same seed gives the same order on every device.
        self._generator = torch.Generator().manual_seed(config.seed)
        self._epoch_start = self._generator.get_state()
        # All generators are put back, the GPUs' too, which manual_seed would set.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(config.seed)
            encoder = ContentEncoder(spec, width, height) if spec.time is None else None
            decoder = FrameDecoder(spec, width, height)
        with torch.no_grad():
            for name, parameter in decoder.named_parameters():
                if name.endswith(".phi"):
                    parameter.copy_(torch.tensor(config.phi))
        self._encoder = None if encoder is None else encoder.to(device)
        self._decoder = decoder.to(device)
        self._times = None
        if spec.time is not None:
            self._times = frame_times(range(count), count, spec.time).float().to(device)
        networks = {"encoder": self._encoder, "decoder": self._decoder}
        self._weights: dict[str, Tensor] = {}
        for kind, network in networks.items():
            if network is not None:
                channels_last(network)
                self._weights |= {f"{kind}.{name}": p for name, p in network.named_parameters()}
        self._loss = SpectrumLoss(
            width, height, config.hfs_weight, config.hfs_gain, config.hfs_cutoff, device
        )
        self._averages = {name: p.detach().clone() for name, p in self._weights.items()}
        self._optimizer = torch.optim.Adam(
            self._weights.values(), betas=(config.beta1, config.beta2), fused=True
        )

    @property
    def step(self) -> int:
        """Steps done so far."""
        return self._step_number

    @property
    def epochs_done(self) -> int:
        """Whole epochs done so far."""
        return self._step_number // self._epoch_steps

    @property
    def finished(self) -> bool:
        return self._step_number == self._steps

    def train(
        self, progress: ProgressCallback | None = None, proceed: Proceed | None = None
    ) -> TrainedNetwork:
        """Run what is left of the schedule.

        Args:
            progress: told the state now and then.
            proceed: asked after every step; the training stops early when it says False.

        Returns:
            the network as it stands at the end or, if stopped, its averaged weights.
        """
        first, started, reported = self._step_number, time.perf_counter(), 0.0
        waited = 0.0
        stopped = False
        while not (self.finished or stopped):
            self._epoch_start = self._generator.get_state()
            squared_errors: list[Tensor] = []
            epoch, done = divmod(self._step_number, self._epoch_steps)
            for indices in islice(self._batches(), done, None):
                loss, errors = self._step(indices)
                squared_errors.append(errors)
                stopped = proceed is not None and not proceed()
                now = time.perf_counter()
                due = now - reported >= REPORT_SECONDS or self.finished
                if progress is not None and due:
                    pace = (now - started - waited) / (self._step_number - first)
                    progress(
                        TrainProgress(
                            epoch=epoch + 1,
                            epochs=self._config.epochs,
                            step=self._step_number,
                            steps=self._steps,
                            psnr=_mean_psnr(torch.cat(squared_errors)),
                            loss=float(loss),
                            seconds_per_step=pace,
                            eta=pace * (self._steps - self._step_number),
                        )
                    )
                    reported = time.perf_counter()
                    waited += reported - now
                if stopped:
                    break
        if not self.finished:
            self._load_weights(self._averages)
        return self._result()

    @torch.no_grad()
    def render(self, number: int) -> Frames:
        """A frame as the network makes it now, samples (H, W, 3)."""
        indices = torch.tensor([number])
        output = self._decoder(self._source(indices, self._targets(indices)))[0]  # (3, H, W)
        samples = (output * self._peak).round_().clamp_(0, self._peak).permute(1, 2, 0)
        frame: Frames = samples.cpu().numpy().astype(self._sample_type)
        return frame

    def state(self) -> TrainerState:
        """A copy of everything that the rest of the training depends on."""
        between = self._step_number % self._epoch_steps == 0
        shuffler = self._generator.get_state() if between else self._epoch_start
        tensors: dict[str, Tensor] = {f"weight.{name}": p for name, p in self._weights.items()}
        tensors |= {f"average.{name}": p for name, p in self._averages.items()}
        for name, parameter in self._weights.items():
            for moment in MOMENTS:
                tensors[f"{moment}.{name}"] = self._optimizer.state[parameter][moment]
        copies = {name: _array(tensor).copy() for name, tensor in tensors.items()}
        return TrainerState(self._step_number, shuffler.numpy().tobytes(), copies)

    def restore(self, state: TrainerState) -> None:
        """Go on from ``state``, of a trainer made with the same arguments.

        Raises:
            CheckpointError: if the state is not that of such a trainer.
        """
        if not 0 < state.step <= self._steps:
            raise CheckpointError(f"the checkpoint's step {state.step} is not in 1..{self._steps}")
        self._load_weights(self._restored(state, "weight"))
        self._averages = self._restored(state, "average")
        moments = {moment: self._restored(state, moment) for moment in MOMENTS}
        for name, parameter in self._weights.items():
            values = {moment: moments[moment][name] for moment in MOMENTS}
            count = torch.tensor(float(state.step), device=self._device)
            self._optimizer.state[parameter] = {"step": count, **values}
        try:
            shuffler = np.frombuffer(state.shuffler, dtype=np.uint8).copy()
            self._generator.set_state(torch.from_numpy(shuffler))
            self._epoch_start = self._generator.get_state()
        except RuntimeError as exc:
            raise CheckpointError("the checkpoint's generator cannot be restored") from exc
        self._step_number = state.step

    def _restored(self, state: TrainerState, kind: str) -> dict[str, Tensor]:
        """Tensors of one kind, laid out in memory as the weights are."""
        result = {}
        for name, parameter in self._weights.items():
            values: Floats | None = state.tensors.get(f"{kind}.{name}")
            if values is None or values.shape != tuple(parameter.shape):
                raise CheckpointError(f"the checkpoint has no fitting {kind} of {name}")
            result[name] = torch.empty_like(parameter, requires_grad=False)
            result[name].copy_(torch.from_numpy(values.copy()))
        return result

    @torch.no_grad()
    def _load_weights(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._weights.items():
            parameter.copy_(values[name])

    @torch.no_grad()
    def _average(self) -> None:
        """Follow the weights with a lag of a share of an epoch, less at the beginning."""
        lag = max(1.0, AVERAGED_SHARE * self._epoch_steps)
        share = max(1 / lag, 9 / (self._step_number + 9))
        torch._foreach_lerp_(list(self._averages.values()), list(self._weights.values()), share)

    def _batches(self) -> Iterator[Tensor]:
        """Indices of one epoch's frames, shuffled, in batches."""
        order = torch.randperm(len(self._frames), generator=self._generator)
        return iter(torch.split(order, self._config.batch))

    def _targets(self, indices: Tensor) -> Tensor:
        """Frames as float32 in 0..1, (B, 3, H, W), channels last in memory."""
        batch = self._frames[indices.to(self._device)]
        return batch.permute(0, 3, 1, 2).float().div_(self._peak)

    def _source(self, indices: Tensor, target: Tensor) -> Tensor:
        """What the decoder makes these frames of: their embeddings, or their times."""
        if self._encoder is not None:
            embedding: Tensor = self._encoder(target)
            return embedding
        assert self._times is not None
        return self._times[indices.to(self._device)]

    def _step(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step; the loss and each frame's mean squared error."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._step_number, self._steps, self._config)
        target = self._targets(indices)
        prediction = self._decoder(self._source(indices, target))
        loss = self._loss(prediction, target)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._step_number += 1
        self._average()
        errors = (prediction.detach() - target).square().mean(dim=(1, 2, 3))
        return loss.detach(), errors

    @torch.no_grad()
    def _result(self) -> TrainedNetwork:
        sources, errors = [], []
        for indices in torch.split(torch.arange(len(self._frames)), self._config.batch):
            target = self._targets(indices)
            sources.append(self._source(indices, target))
            if self.finished:
                rounded = (self._decoder(sources[-1]) * self._peak).round_().div_(self._peak)
                errors.append((rounded - target).square().mean(dim=(1, 2, 3)))
        tensors = {name: _array(p) for name, p in self._decoder.named_parameters()}
        if self._encoder is not None:
            tensors[EMBEDDING] = _array(torch.cat(sources))
        if not all(np.isfinite(values).all() for values in tensors.values()):
            raise HfsvError("the training diverged: lower the learning rate (--lr)")
        return TrainedNetwork(tensors, _mean_psnr(torch.cat(errors)) if errors else None)


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return tensor.detach().contiguous().cpu().numpy()


def _mean_psnr(squared_errors: Tensor) -> float:
    """Mean of the frames' PSNR in dB, each at most 100."""
    return float((-10 * squared_errors.clamp_min(1e-10).log10()).mean())
