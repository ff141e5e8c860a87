"""The decoder network on a CPU by the kernels of ``kernels.c``, one frame at a time.

It gives the samples that :class:`nervcodec.models.frame_decoder.FrameDecoder` in float32 gives,
but for rounding, in a fraction of the time; :func:`supported` says of which networks and where.
"""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref
from functools import cache
from math import prod
from operator import itemgetter

import torch
from torch import Tensor

from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import BANDS, convolutions
from nervcodec.errors import BitstreamError
from nervcodec.fast.convolution import Convolution, pointer_to, prepared_values
from nervcodec.fast.library import (
    ADD,
    GELU,
    NOT_A_NUMBER,
    PLAIN,
    SHUFFLE_GELU,
    MapStruct,
    level,
    load,
)
from nervcodec.models.blocks import Conv, Hfscm, Stage
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.samples import peak

PITCH = 16
"""Rows of a map begin so many values apart, or a multiple: as many as the widest vector has."""

PLANE_UNIT, PLANE_SHIFT = 1024, 144
"""Planes of 640 x 1280 values, one behind the other, would all begin in the same set of a cache; so
each is shifted by a few lines against the last."""

LEAST_WORK = 1 << 16
"""Values of output below which threads cost more than they bring."""

BANDS_A_THREAD = 4
"""Threads take a quarter of their share at a time, so that one that is held up gets less."""


def supported(spec: ModelSpec) -> bool:
    """Whether the kernels are there and can evaluate a network: all but E-NeRV's, without norms."""
    plain = not (spec.has_hfscm and spec.hfscm.norm)
    return load() is not None and spec.transformer is None and plain


def prepared_bytes(spec: ModelSpec, width: int, height: int) -> int:
    """Memory of the weights of the stages and after them as the kernels want them."""
    convs = [
        conv
        for conv in convolutions(spec, width, height)
        if conv.name.startswith(("stages.", "msfrp", "head"))
    ]
    return 4 * sum(
        int(prod(conv.weight_shape) * conv.groups * prepared_values(conv.kernel)) for conv in convs
    )


def _rounded_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


class Map:
    """A map of (channels, height, width) float32 values in some memory, with padded rows."""

    def __init__(self, channels: int, height: int, width: int, memory: Tensor) -> None:
        self.channels, self.height, self.width, self.memory = channels, height, width, memory
        self.count = channels * height * width
        plane, pitch = _strides(height, width)
        self.struct = MapStruct(pointer_to(memory), height, width, pitch, plane)

    def fill(self, values: Tensor) -> None:
        """Copy (channels, height, width) values in."""
        strides = _strides(self.height, self.width)
        self.memory.as_strided(values.shape, (*strides, 1)).copy_(values)


def _strides(height: int, width: int) -> tuple[int, int]:
    """Values from one channel and from one row to the next."""
    pitch = _rounded_up(width, PITCH)
    return _rounded_up(height * pitch, PLANE_UNIT) + PLANE_SHIFT, pitch


class _Memory:
    """What maps are made in; what one leaves, the next one takes that fits into it."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int, Tensor]] = []

    def map(self, channels: int, height: int, width: int) -> Map:
        size = channels * _strides(height, width)[0]
        place = bisect_left(self._free, size, key=itemgetter(0))
        if place < len(self._free):
            return Map(channels, height, width, self._free.pop(place)[-1])
        return Map(channels, height, width, torch.empty(size))

    def give_back(self, *maps: Map) -> None:
        for each in maps:
            # Addresses differ, so that tensors are never compared.
            insort(self._free, (each.memory.numel(), each.memory.data_ptr(), each.memory))

    def release(self) -> None:
        self._free.clear()


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """One for each process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="hfsv")


def _in_bands(work: Callable[[int, int], int], units: int, values: int) -> None:
    """Do ``units`` of rows, of ``values`` in all, in as many threads as torch would use."""
    threads = torch.get_num_threads()
    if threads == 1 or values < LEAST_WORK or units < 2:
        results = [work(0, units)]
    else:
        bands = min(units, threads * BANDS_A_THREAD)
        bounds = [units * band // bands for band in range(bands + 1)]
        results = list(_pool(threads, os.getpid()).map(work, bounds[:-1], bounds[1:]))
    if NOT_A_NUMBER in results:
        raise BitstreamError("the network does not give numbers: its weights overflow")
    if any(results):
        raise MemoryError


class FastDecoder:
    """Evaluates the network of a :class:`FrameDecoder`, whose weights it takes over.

    Maps are allocated by :meth:`frame` and kept for the next frame until :meth:`release`.

    Args:
        instructions: the level of :func:`nervcodec.fast.library.level` to keep to; None for the
            most that the CPU has.
    """

    def __init__(self, decoder: FrameDecoder, instructions: int | None = None) -> None:
        library = load()
        assert library is not None
        assert supported(decoder.spec)
        self._decoder, self._library = decoder, library
        self._level = level() if instructions is None else instructions
        self._stages = [_prepared_stage(stage) for stage in decoder.stages]
        self._detail_stage, self._detail = None, None
        if decoder.spec.detail is not None:
            self._detail_stage = decoder.spec.detail.stage
            self._detail = _prepared(decoder.stages[self._detail_stage].detail)
        self._msfrp = _prepared(decoder.msfrp) if decoder.msfrp_stage is not None else None
        self._head = _prepared(decoder.head)
        self._memory = _Memory()

    def release(self) -> None:
        """Give the memory of the maps back."""
        self._memory.release()

    @torch.inference_mode()
    def frame(self, source: Tensor, detail: Tensor | None = None, *, bit_depth: int = 8) -> Tensor:
        """What the network sees of one frame, (1, C, h, w), to its samples, (1, 3, H, W).

        They are uint8 at 8 bits, else int16. ``detail`` is the second embedding of a network that
        has one.

        Raises:
            BitstreamError: if a value is not a number.
        """
        decoder, maps = self._decoder, self._memory
        first = decoder.first_map(source)[0]
        x = maps.map(*first.shape)
        x.fill(first)
        reused = None
        for index, (conv, upsampling, block) in enumerate(self._stages):
            if index == self._detail_stage:
                assert detail is not None
                x = self._detailed(x, detail[0])
            x = self._upsampled(conv, x, *upsampling)
            if block is not None:
                x = self._attended(block, x)
            if index == decoder.msfrp_stage:
                assert self._msfrp is not None
                reused = self._convolved(self._msfrp, x)
        logits = self._convolved(self._head, x)
        maps.give_back(x, logits)
        samples = self._samples(logits, reused, bit_depth)
        if reused is not None:
            maps.give_back(reused)
        return samples

    def _detailed(self, x: Map, values: Tensor) -> Map:
        """``x``, which is not needed any more, and what the second embedding adds to it."""
        assert self._detail is not None
        detail = self._memory.map(*values.shape)
        detail.fill(values)
        out = self._convolved(self._detail, detail, ADD, x)
        self._memory.give_back(x, detail)
        return out

    def _samples(self, logits: Map, reused: Map | None, bit_depth: int) -> Tensor:
        height, width = self._decoder.height, self._decoder.width
        kind = torch.uint8 if bit_depth == 8 else torch.int16
        out = torch.empty((1, 3, height, width), dtype=kind)
        self._rows(
            self._library.hfsv_samples,
            (
                byref(logits.struct),
                None if reused is None else byref(reused.struct),
                int(self._decoder.spec.msfrp_after),
                float(peak(bit_depth)),
                out.data_ptr(),
                out.element_size(),
                height,
                width,
            ),
            height,
            logits,
        )
        return out

    def _convolved(
        self,
        conv: Convolution,
        x: Map,
        epilogue: int = PLAIN,
        extra: Map | None = None,
    ) -> Map:
        out = self._memory.map(conv.outputs, x.height, x.width)
        self._convolve(conv, x, out, epilogue, extra, 1)
        return out

    def _upsampled(self, conv: Convolution, x: Map, stride: int, bilinear: bool) -> Map:
        """Convolution, PixelShuffle or resizing, and GELU; ``x`` is not needed any more."""
        if bilinear:
            small = self._convolved(conv, x)
            self._memory.give_back(x)
            out = self._memory.map(conv.outputs, small.height * stride, small.width * stride)
            self._rows(
                self._library.hfsv_upsample,
                (byref(small.struct), byref(out.struct), conv.outputs, stride),
                small.height,
                out,
            )
            self._memory.give_back(small)
            return out
        out = self._memory.map(conv.outputs // stride**2, x.height * stride, x.width * stride)
        self._convolve(conv, x, out, SHUFFLE_GELU, None, stride)
        self._memory.give_back(x)
        return out

    def _convolve(
        self, conv: Convolution, x: Map, out: Map, epilogue: int, extra: Map | None, stride: int
    ) -> None:
        other = None if extra is None else byref(extra.struct)
        run, arguments = self._library.hfsv_convolve, (byref(conv.struct), byref(x.struct))

        def work(first: int, last: int) -> int:
            return int(
                run(
                    self._level, *arguments, byref(out.struct), epilogue, other, stride, first, last
                )
            )

        _in_bands(work, -(-x.height // conv.step), out.count)

    def _attended(self, block: _Block, f1: Map) -> Map:
        """HFSCM; ``f1`` is not needed any more."""
        library, height = self._library, f1.height
        f2 = self._memory.map(f1.channels, height, f1.width)
        self._rows(
            library.hfsv_channel_attention,
            (*block.attention, byref(f1.struct), byref(f2.struct)),
            height,
            f2,
        )
        reduced = self._convolved(block.reduce, f2)
        features = self._memory.map((BANDS + 1) * block.reduce.outputs, height, f1.width)
        self._rows(
            library.hfsv_band_features,
            (byref(reduced.struct), byref(features.struct), block.reduce.outputs, block.phi),
            -(-height // 2),
            features,
        )
        logits = self._convolved(block.expand, features)
        self._memory.give_back(reduced, features)
        self._rows(
            library.hfsv_gate,
            (
                byref(f2.struct),
                byref(logits.struct),
                logits.channels,
                byref(f2.struct),
                f2.channels,
                int(bool(block.extra)),
            ),
            height,
            f2,
        )
        self._memory.give_back(logits)
        for number, conv in enumerate(block.extra):
            last = number + 1 == len(block.extra)
            before, f2 = f2, self._convolved(conv, f2, ADD if last else GELU, f1 if last else None)
            self._memory.give_back(before)
        if not block.extra:
            self._rows(
                library.hfsv_add, (byref(f1.struct), byref(f2.struct), f2.channels), height, f2
            )
        self._memory.give_back(f1)
        return f2

    def _rows(
        self, kernel: Callable[..., int], arguments: tuple[object, ...], units: int, out: Map
    ) -> None:
        _in_bands(
            lambda first, last: kernel(self._level, *arguments, first, last),
            units,
            out.count,
        )


class _Block:
    """HFSCM's weights as the kernels want them."""

    def __init__(self, hfscm: Hfscm) -> None:
        self.reduce = _prepared(hfscm.spatial_reduce)
        self.expand = _prepared(hfscm.spatial_expand)
        self.extra = [_prepared(conv) for conv in hfscm.extra]
        self._attention = _prepared(hfscm.channel_reduce), _prepared(hfscm.channel_expand)
        self.attention = tuple(byref(conv.struct) for conv in self._attention)
        self._phi = hfscm.phi.detach().contiguous()
        self.phi = pointer_to(self._phi)


def _prepared(conv: object) -> Convolution:
    assert isinstance(conv, Conv)
    assert conv.bias is not None
    return Convolution(conv.weight, conv.bias, conv.groups)


def _prepared_stage(stage: object) -> tuple[Convolution, tuple[int, bool], _Block | None]:
    """Convolution, how its map is upsampled, and HFSCM."""
    assert isinstance(stage, Stage)
    block = None if stage.hfscm is None else _Block(stage.hfscm)
    return _prepared(stage.conv), (stage.stride, stage.bilinear), block
