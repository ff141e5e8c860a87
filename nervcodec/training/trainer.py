"""Overfits one network to one segment's frames, with the rate of its symbols in the loss or not.

:mod:`nervcodec.training.quantization` makes symbols of it, :mod:`nervcodec.training.checkpoint`
keeps the state between two steps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import FRAME_TENSORS, tensor_specs
from nervcodec.config import (
    BFLOAT16,
    DEFAULT_CRF,
    ENCODERS,
    FLOAT32,
    SOAP,
    TrainConfig,
    rate_weight,
)
from nervcodec.errors import CheckpointError, HfsvError
from nervcodec.fast.operations import FastOperations, available, kernels_alone
from nervcodec.fast.operations import rounded_values as fast_rounding
from nervcodec.models import operations
from nervcodec.models.blocks import channels_last
from nervcodec.models.content_encoder import ContentEncoder
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.models.positions import frame_times
from nervcodec.samples import Frames, peak, sample_type
from nervcodec.training.checkpoint import Floats, TrainerState
from nervcodec.training.goal import NO_GOAL, Goal
from nervcodec.training.guard import Guard
from nervcodec.training.losses import FrameWeights, SpectrumLoss
from nervcodec.training.order import FrameOrder
from nervcodec.training.progress import Proceed, ProgressCallback, TrainedNetwork, TrainProgress
from nervcodec.training.quantized import QuantizedTraining, as_array
from nervcodec.training.rate import rounded_values
from nervcodec.training.schedule import WATCHED_FROM, Gains, Schedule, rate_factor
from nervcodec.training.soap import LARGEST_SIDE, Soap
from nervcodec.training.table import EmbeddingTable

ROUNDED_COST, FREE_SAVING = 0.1, 0.25
"""What rounding adds to a step, and what leaving the content encoder out saves, in steps of the
beginning: 0.08 to 0.14, and 0.21 to 0.31, as measured on carphone and Bunny."""

LEAST_LOOKS = 25
"""Steps between two looks at the quantization, a quarter of an epoch in longer ones."""

LOOKS_A_MEASUREMENT = 4
"""The size is measured so rarely, by coding all symbols, where there is none to keep to."""

UNSEEN = -1.0
"""Error of a frame that was not seen yet."""

REPORT_SECONDS = 0.2
"""How often the progress callback is called at most."""

ENCODED_UNTIL = 0.5
"""Share of the schedule in which the content encoder makes the embeddings; then they are free."""

EMBEDDING_RATE = 3e-3
"""Peak learning rate of free embeddings (Adam)."""

AVERAGED_SHARE = 0.25
"""Share of an epoch over which the weights of a stopped training are averaged. At high learning
rates single weights are noisy: on carphone the average gained 0.2 to 1.0 dB."""


class Trainer:
    """Trains a decoder, and HNeRV's content encoder, on frames held as integers.

    Args:
        frames: (N, H, W, 3), see :data:`nervcodec.samples.Frames`.
        spec: the network's shape.
        config: the schedule.
        device: where to train; the frames are moved there once.
        bit_depth: of the frames' samples.
        goal: what the segment is to keep to, from which lambda then follows.
        kernels: use those of :mod:`nervcodec.fast` where they can be; else torch alone.
    """

    def __init__(
        self,
        frames: Frames,
        spec: ModelSpec,
        config: TrainConfig,
        device: torch.device,
        bit_depth: int = 8,
        goal: Goal = NO_GOAL,
        kernels: bool = True,
    ) -> None:
        count, height, width, _ = frames.shape
        self._config = config
        self._device = device
        self._peak = float(peak(bit_depth))
        self._sample_type = sample_type(bit_depth)
        # Torch computes little with uint16; the samples fit int16.
        samples = frames if bit_depth == 8 else frames.view(np.int16)
        self._frames = torch.from_numpy(samples).to(device)
        self._order = FrameOrder(count, config.batch, config.seed)
        self._schedule = Schedule(config.epochs * self._order.epoch_steps, config.seconds)
        encoder, decoder = _networks(spec, config, width, height)
        self._encoder = None if encoder is None else encoder.to(device)
        self._decoder = decoder.to(device)
        self._times = None
        if spec.time is not None:
            self._times = frame_times(range(count), count, spec.time).float().to(device)
        plain = config.precision == FLOAT32
        self._fast = kernels and plain and device.type == "cpu" and available()
        networks = {"encoder": self._encoder, "decoder": self._decoder}
        self._weights: dict[str, Tensor] = {}
        for kind, network in networks.items():
            if network is not None:
                if self._fast:
                    operations.use(network, FastOperations())
                else:
                    channels_last(network)
                self._weights |= {f"{kind}.{name}": p for name, p in network.named_parameters()}
        self._loss = SpectrumLoss(
            width, height, config.hfs_weight, config.hfs_gain, config.hfs_cutoff, device
        )
        self._frame_weights = FrameWeights(count, device)
        self._errors = torch.full((count,), UNSEEN, device=device)
        self._guard = Guard(device)
        self._averages = {name: p.detach().clone() for name, p in self._weights.items()}
        side = LARGEST_SIDE if config.optimizer == SOAP else 0
        specs = tensor_specs(spec, width, height, count)
        shapes = {tensor.name: tensor.shape for tensor in specs if tensor.name in FRAME_TENSORS}
        self._table = EmbeddingTable(shapes, device)
        self._encoded_until = ENCODED_UNTIL
        self._optimizers = {
            kind: Soap(dict(network.named_parameters()), *config.betas, side)
            for kind, network in networks.items()
            if network is not None
        }
        self._peak_rate = config.peak_rate(spec.stem_channels)
        self._parameters = dict(decoder.named_parameters())
        weight = rate_weight(DEFAULT_CRF) if config.rate_weight is None else config.rate_weight
        self._looks_a_measurement = LOOKS_A_MEASUREMENT if goal.bytes is None else 1
        self._quantized: QuantizedTraining | None = None
        if weight > 0:
            self._quantized = QuantizedTraining(
                spec,
                specs,
                self._parameters,
                rate_weight=weight,
                pixels=count * height * width,
                goal=goal,
                device=device,
                rounding=fast_rounding if self._fast else rounded_values,
            )

    @property
    def step(self) -> int:
        """Steps done so far."""
        return self._schedule.step

    @property
    def epochs_done(self) -> int:
        """Whole epochs done so far."""
        return self._schedule.step // self._order.epoch_steps

    @property
    def finished(self) -> bool:
        return self._schedule.finished

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
        with kernels_alone() if self._fast else nullcontext():
            return self._train(progress, proceed)

    def _train(self, progress: ProgressCallback | None, proceed: Proceed | None) -> TrainedNetwork:
        schedule = self._schedule
        schedule.start()
        first, started, reported, waited = schedule.step, time.perf_counter(), 0.0, 0.0
        stopped = False
        least = self._config.least_gain
        gains = Gains(0.0 if least is None else least)
        while not (self.finished or stopped):
            squared_errors: list[Tensor] = []
            epoch, done = divmod(schedule.step, self._order.epoch_steps)
            for indices in self._order.epoch(done):
                loss, errors = self._step(indices)
                squared_errors.append(errors)
                stopped = proceed is not None and not proceed()
                now = time.perf_counter()
                due = now - reported >= REPORT_SECONDS or self.finished
                if progress is not None and due:
                    elapsed = now - started - waited
                    left = schedule.seconds_left
                    if left is None:
                        pace = elapsed / (self._work(schedule.step) - self._work(first))
                        left = pace * (self._work(schedule.steps) - self._work(schedule.step))
                    progress(
                        TrainProgress(
                            epoch=epoch + 1,
                            epochs=-(-schedule.steps // self._order.epoch_steps),
                            step=schedule.step,
                            steps=schedule.steps,
                            psnr=_mean_psnr(torch.cat(squared_errors)),
                            loss=float(loss),
                            seconds_per_step=elapsed / (schedule.step - first),
                            eta=left,
                            bytes=None if self._begun is None else self._begun.bytes,
                        )
                    )
                    reported = time.perf_counter()
                    waited += reported - now
                if stopped or self.finished:
                    break
            watched = least is not None and schedule.share >= WATCHED_FROM
            if watched and gains.too_small(_mean_psnr(torch.cat(squared_errors))):
                schedule.cool_down()
        if not self.finished:
            self._load_weights(self._averages)
        return self._result()

    @torch.no_grad()
    def go_on_from(self, values: Mapping[str, Floats], steps: Mapping[str, Floats] | None) -> None:
        """Begin with the network of a file, instead of a random one.

        Args:
            values: its tensors by name.
            steps: their quantization steps, one of each and of each channel of the embeddings;
                None if they were not trained.
        """
        given = {name: torch.from_numpy(array.copy()) for name, array in values.items()}
        embeddings = [given.pop(name) for name in FRAME_TENSORS if name in given]
        for name, tensor in given.items():
            self._parameters[name].copy_(tensor)
        if embeddings:
            self._table.begin([tensor.to(self._device) for tensor in embeddings])
            self._encoded_until = 0.0
        if steps is not None and self._quantized is not None:
            own = {name: torch.from_numpy(array).to(self._device) for name, array in steps.items()}
            self._quantized.take_over(self._table.values if embeddings else (), own)

    @torch.no_grad()
    def render(self, number: int) -> Frames:
        """A frame as the network makes it now, samples (H, W, 3)."""
        indices = torch.tensor([number])
        output = self._predict(self._sources(indices, self._targets(indices)), indices)[0]
        samples = (output * self._peak).round_().clamp_(0, self._peak).permute(1, 2, 0)
        frame: Frames = samples.cpu().numpy().astype(self._sample_type)
        return frame

    def state(self) -> TrainerState:
        """A copy of everything that the rest of the training depends on."""
        shuffler = self._order.state(self._schedule.step)
        tensors = self._state_tensors()
        copies = {name: as_array(tensor).copy() for name, tensor in tensors.items()}
        return TrainerState(self._schedule.step, shuffler, copies)

    @torch.no_grad()
    def restore(self, state: TrainerState) -> None:
        """Go on from ``state``, of a trainer made with the same arguments.

        Raises:
            CheckpointError: if the state is not that of such a trainer.
        """
        last = None if self._config.seconds is not None else self._schedule.steps
        if state.step < 1 or (last is not None and state.step > last):
            raise CheckpointError(f"the checkpoint's step {state.step} is not in 1..{last or ''}")
        for name, tensor in self._state_tensors().items():
            values: Floats | None = state.tensors.get(name)
            if values is None or values.shape != tuple(tensor.shape):
                raise CheckpointError(f"the checkpoint has no fitting {name}")
            tensor.copy_(torch.from_numpy(values.copy()))
        for optimizer in self._optimizers.values():
            optimizer.steps = state.step
        if self._quantized is not None:
            self._quantized.restored()
        self._order.restore(state.shuffler)
        self._schedule.step = state.step

    def _state_tensors(self) -> dict[str, Tensor]:
        """What the rest of the training depends on, itself and not a copy."""
        tensors = self._network_tensors()
        tensors |= {f"schedule.{name}": p for name, p in self._schedule.tensors().items()}
        return tensors | {f"guard.{name}": p for name, p in self._guard.tensors().items()}

    def _network_tensors(self) -> dict[str, Tensor]:
        """What of the state a training goes back to that has lost its frames."""
        tensors = {f"weight.{name}": p.detach() for name, p in self._weights.items()}
        tensors |= {f"average.{name}": p for name, p in self._averages.items()}
        for kind, optimizer in self._optimizers.items():
            tensors |= {f"{kind}.{name}": p for name, p in optimizer.tensors().items()}
        tensors |= {f"table.{name}": p for name, p in self._table.tensors().items()}
        tensors["mean_error"], tensors["errors"] = self._frame_weights.mean, self._errors
        return tensors | (self._quantized.tensors() if self._quantized is not None else {})

    def _work(self, steps: int) -> float:
        """What the first so many steps take, in steps of the beginning."""
        whole = self._schedule.steps
        work = float(steps)
        if self._quantized is not None:
            work += ROUNDED_COST * max(0.0, steps - self._quantized.begins_at * whole)
        if self._encoder is not None:
            work -= FREE_SAVING * max(0.0, steps - self._encoded_until * whole)
        return work

    @property
    def _begun(self) -> QuantizedTraining | None:
        """The quantization, once a step was made with it."""
        found = self._quantized
        return found if found is not None and found.begun else None

    @property
    def _active(self) -> QuantizedTraining | None:
        """The quantization, if the next step is made with it."""
        found = self._quantized
        return found if found is not None and found.due(self._schedule.share) else None

    @torch.no_grad()
    def _load_weights(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._weights.items():
            parameter.copy_(values[name])

    @torch.no_grad()
    def _average(self) -> None:
        """Follow the weights with a lag of a share of an epoch, less at the beginning."""
        lag = max(1.0, AVERAGED_SHARE * self._order.epoch_steps)
        share = max(1 / lag, 9 / (self._schedule.step + 9))
        torch._foreach_lerp_(list(self._averages.values()), list(self._weights.values()), share)

    def _targets(self, indices: Tensor) -> Tensor:
        """Frames as float32 in 0..1, (B, 3, H, W), channels last in memory."""
        batch = self._frames[indices.to(self._device)]
        return batch.permute(0, 3, 1, 2).float().div_(self._peak)

    def _sources(self, indices: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        """What the decoder makes these frames of: their embeddings, or their times."""
        if self._table.in_use:
            return self._table.rows(indices)
        if self._encoder is not None:
            with self._precision():
                embeddings: tuple[Tensor, ...] = self._encoder(target)
            return tuple(values.float() for values in embeddings)
        assert self._times is not None
        return (self._times[indices.to(self._device)],)

    def _step(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step; the loss and each frame's mean squared error."""
        schedule, active = self._schedule, self._active
        falling = rate_factor(schedule.share, self._config.warmup) * float(self._guard.factor)
        if (
            self._encoder is not None
            and not self._table.in_use
            and schedule.share >= self._encoded_until
        ):
            self._table.begin(self._all_embeddings())
        if active is not None and not active.begun:
            active.begin(self._all_embeddings())
        target = self._targets(indices)
        sources = self._sources(indices, target)
        bits = None
        if active is None:
            prediction = self._decoded(None, sources)
        else:
            weights, sources, bits = active.rounded(sources, indices)
            prediction = self._decoded(weights, sources)
            active.zero_grad()
        losses, errors = self._loss(prediction, target)
        self._errors[indices.to(self._device)] = errors.detach()
        if self._config.psnr_weights:
            losses = self._frame_weights(errors) * losses
        loss = losses.mean()
        if active is not None and bits is not None:
            loss = loss + active.price(schedule.share) * bits
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizers["decoder"].step(self._peak_rate * falling)
        if self._table.in_use:
            self._table.step(indices, EMBEDDING_RATE * falling)
        elif self._encoder is not None:
            self._optimizers["encoder"].step(self._peak_rate * falling)
        advance = schedule.advance()
        self._average()
        if active is not None:
            active.step(schedule.share, advance, min(1.0, 2 * falling), self._seen_psnr)
            looks, rest = divmod(schedule.step, max(LEAST_LOOKS, self._order.epoch_steps // 4))
            if schedule.finished or (rest == 0 and looks % self._looks_a_measurement == 0):
                active.measure()
            elif rest == 0:
                active.classify()
        self._watch(errors.detach(), target)
        return loss.detach(), errors.detach()

    @torch.no_grad()
    def _watch(self, errors: Tensor, target: Tensor) -> None:
        """Go back to what was before, if the network has lost its frames.

        What is done of the schedule is done.
        """
        guard, step = self._guard, self._schedule.step
        guard.see(errors, target)
        if not guard.lost(step):
            guard.keep(step, self._network_tensors)
            return
        kept = guard.go_back()
        for name, tensor in self._network_tensors().items():
            tensor.copy_(kept[name])
        if self._quantized is not None:
            self._quantized.restored()

    def _seen_psnr(self) -> float:
        """Of all frames as they were last seen, in dB."""
        return _mean_psnr(self._errors[self._errors != UNSEEN])

    def _predict(self, sources: tuple[Tensor, ...], indices: Tensor) -> Tensor:
        """Frames (B, 3, H, W) of the network as it stands, quantized if that has begun."""
        weights = None
        if (active := self._begun) is not None:
            weights, sources, _ = active.rounded(sources, indices)
        return self._decoded(weights, sources)

    def _decoded(self, weights: dict[str, Tensor] | None, sources: tuple[Tensor, ...]) -> Tensor:
        """Frames (B, 3, H, W) in float32 that the decoder makes, with those tensors or its own."""
        with self._precision():
            if weights is None:
                prediction: Tensor = self._decoder(*sources)
            else:
                prediction = functional_call(self._decoder, weights, sources)
        return prediction.float()

    def _precision(self) -> AbstractContextManager[object]:
        """What networks are evaluated in."""
        if self._config.precision == BFLOAT16:
            return torch.autocast(self._device.type, torch.bfloat16)
        return nullcontext()

    @torch.no_grad()
    def _all_embeddings(self) -> list[Tensor]:
        if self._encoder is None:
            return []
        every = torch.split(torch.arange(len(self._frames)), self._config.batch)
        parts = [self._sources(part, self._targets(part)) for part in every]
        return [torch.cat(values) for values in zip(*parts, strict=True)]

    @torch.no_grad()
    def _result(self) -> TrainedNetwork:
        sources, errors = [], []
        for indices in torch.split(torch.arange(len(self._frames)), self._config.batch):
            target = self._targets(indices)
            sources.append(self._sources(indices, target))
            if self.finished:
                prediction = self._predict(sources[-1], indices)
                rounded = (prediction * self._peak).round_().div_(self._peak)
                errors.append((rounded - target).square().mean(dim=(1, 2, 3)))
        tensors = {name: as_array(p) for name, p in self._parameters.items()}
        if self._encoder is not None:
            for name, parts in zip(FRAME_TENSORS, zip(*sources, strict=True), strict=False):
                tensors[name] = as_array(torch.cat(parts))
        if not all(np.isfinite(values).all() for values in tensors.values()):
            raise HfsvError("the training diverged: lower the learning rate (--lr)")
        steps = None if self._begun is None else self._begun.steps()
        return TrainedNetwork(tensors, _mean_psnr(torch.cat(errors)) if errors else None, steps)


def _networks(
    spec: ModelSpec, config: TrainConfig, width: int, height: int
) -> tuple[ContentEncoder | None, FrameDecoder]:
    """Random ones of the configuration's seed; without an embedding there is no encoder."""
    # All generators are put back, the GPUs' too, which manual_seed would set.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(config.seed)
        encoder = None
        if spec.time is None:
            encoder = ContentEncoder(spec, width, height, *ENCODERS[config.encoder])
        decoder = FrameDecoder(spec, width, height)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name.endswith(".phi"):
                parameter.copy_(torch.tensor(config.phi))
    return encoder, decoder


def _mean_psnr(squared_errors: Tensor) -> float:
    """Mean of the frames' PSNR in dB, each at most 100."""
    return float((-10 * squared_errors.clamp_min(1e-10).log10()).mean())
