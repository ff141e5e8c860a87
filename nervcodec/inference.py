"""From a segment's symbols to frames: the fast float32 path and the normative float64 one.

:mod:`nervcodec.clip` serves frames of whole files with it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.stream import HASH_BYTES
from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import FRAME_TENSORS, activation_bytes, value_count
from nervcodec.errors import BitstreamError, UsageError
from nervcodec.fast.network import FastDecoder, prepared_bytes, supported
from nervcodec.fast.operations import FastOperations, available, kernels_alone
from nervcodec.models.blocks import channels_last
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.models.operations import use
from nervcodec.models.positions import frame_times
from nervcodec.samples import Frames, peak

BATCH_BYTES = 1 << 30
MAX_BATCH = 16
"""Frames evaluated together on a GPU, so many that their maps take 1 GiB by estimate."""

NETWORK_OVERHEAD = 100_000
"""Bytes that a network takes beside its values: some hundred Python objects, as measured."""


def select_device(name: str) -> torch.device:
    """Device for ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as exc:
        raise UsageError(f"--device {name}: no such device on this machine") from exc
    return device


class SegmentRenderer:
    """Evaluates one segment's network.

    Args:
        segment: decoded symbols.
        width, height: size of the frames.
        bit_depth: of the frames' samples.
        reference: evaluate in float64 on the CPU, as the spec's conformance section defines it.
        device: where the fast path runs.
        kernels: use those of :mod:`nervcodec.fast` where they can be; else torch alone.
    """

    def __init__(
        self,
        segment: Segment,
        width: int,
        height: int,
        *,
        bit_depth: int = 8,
        reference: bool = False,
        device: torch.device | None = None,
        kernels: bool = True,
    ) -> None:
        dtype = torch.float64 if reference else torch.float32
        self._bit_depth, self._peak = bit_depth, peak(bit_depth)
        # Torch computes little with uint16, which numpy makes of these.
        self._sample_type = torch.uint8 if bit_depth == 8 else torch.int16
        self._device = torch.device("cpu") if reference or device is None else device
        tensors = {
            tensor.spec.name: torch.from_numpy(tensor.dequantize()).to(self._device, dtype)
            for tensor in segment.tensors
        }
        self._embeddings = [tensors.pop(name) for name in FRAME_TENSORS if name in tensors]
        self._frames, self._time, self._dtype = segment.frames, segment.model.time, dtype
        with torch.device("meta"):
            network = FrameDecoder(segment.model, width, height)
        network.load_state_dict(tensors, assign=True)
        on_cpu = self._device.type == "cpu"
        self._kernels, self._alone = None, False
        if on_cpu and not reference and kernels and supported(segment.model):
            self._kernels = FastDecoder(network.eval())
        elif reference and kernels and available():
            use(network, FastOperations())
            self._alone = True
        elif not reference:
            channels_last(network)
        self._network = network.eval()
        per_frame = activation_bytes(segment.model, width, height)
        fitting = max(1, min(MAX_BATCH, BATCH_BYTES // per_frame))
        # On a CPU batches gain nothing, and one by one a frame is the same however it is asked for.
        self._batch = 1 if on_cpu else fitting

    def __len__(self) -> int:
        return self._frames

    def frames(self, indices: Sequence[int]) -> Iterator[Frames]:
        """Frames of the segment, (H, W, 3) RGB, in the order of ``indices``."""
        for batch in self.batches(indices):
            frames = batch.permute(0, 2, 3, 1).contiguous().cpu().numpy()
            yield from frames if frames.dtype == np.uint8 else frames.view(np.uint16)

    def batches(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """The same frames as (B, 3, H, W) on the renderer's device, some at a time.

        Samples are uint8 at 8 bits, else int16, which holds them too.
        """
        try:
            for start in range(0, len(indices), self._batch):
                yield self._evaluate(indices[start : start + self._batch])
        finally:
            if self._kernels is not None:
                self._kernels.release()

    def _sources(self, indices: Sequence[int]) -> list[Tensor]:
        """What the network makes frames of: their embeddings, or their times."""
        if self._time is None:
            places = torch.tensor(indices, device=self._device)
            return [embeddings[places] for embeddings in self._embeddings]
        times = frame_times(indices, self._frames, self._time)
        return [times.to(self._device, self._dtype)]

    @torch.inference_mode()
    def _evaluate(self, indices: Sequence[int]) -> Tensor:
        if self._kernels is not None:
            return self._kernels.frame(*self._sources(indices), bit_depth=self._bit_depth)
        with kernels_alone() if self._alone else nullcontext():
            rgb = self._network(*self._sources(indices))
        if rgb.isnan().any():
            raise BitstreamError("the network does not give numbers: its weights overflow")
        return torch.floor(rgb * self._peak + 0.5).to(self._sample_type)


def network_bytes(model: ModelSpec, width: int, height: int, frames: int) -> int:
    """Memory that a float32 :class:`SegmentRenderer` keeps, by estimate."""
    values = 4 * value_count(model, width, height, frames) + NETWORK_OVERHEAD
    return values + prepared_bytes(model, width, height) if supported(model) else values


class RendererCache:
    """Renderers by number, those used latest: ``capacity`` bytes of them, but always one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[int, tuple[SegmentRenderer, int]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, number: int) -> bool:
        return number in self._kept

    def get(self, number: int, size: int, build: Callable[[], SegmentRenderer]) -> SegmentRenderer:
        """The renderer kept, else a new one of ``size`` bytes; room for it is made before."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number][0]
        while self._kept and self._bytes + size > self.capacity:
            self._bytes -= self._kept.popitem(last=False)[1][1]
        renderer = build()
        self._kept[number] = renderer, size
        self._bytes += size
        return renderer

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


class FramesDigest:
    """The digest of HASH: SHA-256 over reference frames in order, its first 8 bytes."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, frame: Frames) -> None:
        little_endian = frame.dtype.newbyteorder("<")
        self._hash.update(frame.astype(little_endian, copy=False).tobytes())

    def digest(self) -> bytes:
        return self._hash.digest()[:HASH_BYTES]
