"""The operations of a training and their gradients by the kernels of ``layers.h``, ``training.h``.

:class:`FastOperations` takes the place of :class:`nervcodec.models.operations.Operations`. In
float64 it computes convolutions without their gradients, which torch does slowly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, pointer
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from nervcodec.bitstream.tensors import BANDS
from nervcodec.fast.convolution import WINOGRAD_STEPS, winograd_plan
from nervcodec.fast.library import LayerStruct, level, load
from nervcodec.models.operations import NORM_EPSILON, Operations

LEAST_CHANNELS, LEAST_PLACES = 3, 1000
"""Inputs and outputs, and places of a map, that make it worth to transform a convolution's rows."""


def available() -> bool:
    """Whether the kernels were compiled."""
    return load() is not None


def use_threads(threads: int) -> None:
    """Compute each operation in so many threads; the results do not depend on it."""
    _call("hfsv_use_threads", threads)


@contextmanager
def kernels_alone() -> Iterator[None]:
    """The kernels use as many threads as torch would, and torch one.

    What is left to torch is little, and its threads wait for each other in a way that makes a step
    a hundred times as long where a core has other work to do.
    """
    threads = torch.get_num_threads()
    use_threads(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _call(name: str, *arguments: Any) -> None:
    """Call a kernel; tensors go as pointers and must be contiguous.

    Raises:
        MemoryError: where it could not get its working memory.
    """
    pointers = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    if getattr(load(), name)(level(), *pointers) != 0:
        raise MemoryError(f"no memory for {name}")


def _layer_of(x: Tensor, weight: Tensor, depthwise: bool) -> tuple[LayerStruct, Tensor]:
    """What the kernels are told of a convolution, and where its result goes."""
    images, inputs, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    layer = LayerStruct(images, inputs, outputs, height, width, kernel, depthwise)
    single = x.dtype == torch.float32 and not depthwise
    if single and winograd_pays(inputs, outputs, height * width, kernel):
        layer.winograd = pointer(winograd_plan(kernel).struct)
    return layer, x.new_empty(images, outputs, height, width)


def winograd_pays(inputs: int, outputs: int, places: int, kernel: int) -> bool:
    """Whether fewer multiplications make up for the transforms, one of each channel."""
    large = min(inputs, outputs) >= LEAST_CHANNELS and places >= LEAST_PLACES
    return kernel in WINOGRAD_STEPS and large


class _Convolve(Function):
    """Convolution, zero padding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, depthwise: bool) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        layer, out = _layer_of(x, weight, depthwise)
        _call("hfsv_layer_forward", byref(layer), x, weight, bias.contiguous(), out)
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        for_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        for_weight, for_bias = torch.empty_like(weight), weight.new_empty(len(weight))
        _call(
            "hfsv_layer_backward",
            byref(ctx.layer),
            x,
            weight,
            gradient.contiguous(),
            for_x,
            for_weight,
            for_bias,
        )
        return for_x, for_weight, for_bias, None


class _Gelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        slopes = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        _call("hfsv_gelu_forward", x, x.numel(), out, slopes)
        ctx.save_for_backward(slopes)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (slopes,) = ctx.saved_tensors
        out: Tensor = gradient * slopes
        return out


class _ShuffledGelu(Function):
    """PixelShuffle and GELU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        x = x.contiguous()
        images, inputs, height, width = x.shape
        channels = inputs // stride**2
        # Images are as so many channels more.
        ctx.shape = (images * channels, height, width, stride)
        out = x.new_empty(images, channels, height * stride, width * stride)
        slopes = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        _call("hfsv_shuffle_forward", x, *ctx.shape, out, slopes)
        ctx.save_for_backward(slopes)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        out = torch.empty_like(slopes)
        _call("hfsv_shuffle_backward", slopes, gradient.contiguous(), *ctx.shape, out)
        return out, None


class _Upsampled(Function):
    """A map at ``stride`` times its size, and GELU where it is asked for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, activate: bool) -> Tensor:
        x = x.contiguous()
        images, channels, height, width = x.shape
        ctx.images, ctx.shape = images, (images * channels, height, width, stride)
        out = x.new_empty(images, channels, height * stride, width * stride)
        slopes = torch.empty_like(out) if activate and ctx.needs_input_grad[0] else None
        _call("hfsv_upsample_forward", x, *ctx.shape, activate, out, slopes)
        ctx.save_for_backward(slopes)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        maps, height, width, _ = ctx.shape
        out = gradient.new_empty(ctx.images, maps // ctx.images, height, width)
        _call("hfsv_upsample_backward", slopes, gradient.contiguous(), *ctx.shape, out)
        return out, None, None


class _InRange(Function):
    """(1 + tanh(y)) / 2."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        y = y.contiguous()
        out = torch.empty_like(y)
        _call("hfsv_range_forward", y, y.numel(), out)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        out = torch.empty_like(values)
        _call("hfsv_range_backward", values, gradient.contiguous(), values.numel(), out)
        return out


class _Gate(Function):
    """x * sigmoid(logits) + x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, logits: Tensor) -> Tensor:
        x, logits = x.contiguous(), logits.contiguous()
        out = torch.empty_like(x)
        for one, own, result in zip(x, logits, out, strict=True):
            _call("hfsv_gate_forward", one, own, len(own), len(one), one[0].numel(), result)
        ctx.save_for_backward(x, logits)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, logits = ctx.saved_tensors
        gradient = gradient.contiguous()
        for_x, for_logits = torch.empty_like(x), torch.empty_like(logits)
        for i, (one, own) in enumerate(zip(x, logits, strict=True)):
            sizes = (len(own), len(one), one[0].numel())
            _call("hfsv_gate_backward", one, own, gradient[i], *sizes, for_x[i], for_logits[i])
        return for_x, for_logits


class _BandFeatures(Function):
    """GELU of a map and its four lifted Haar bands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, phi: Tensor) -> Tensor:
        x, phi = x.contiguous(), phi.contiguous()
        images, channels, height, width = x.shape
        out = x.new_empty(images, (BANDS + 1) * channels, height, width)
        for one, result in zip(x, out, strict=True):
            _call("hfsv_bands_forward", one, phi, channels, height, width, result)
        ctx.save_for_backward(x, phi)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, phi = ctx.saved_tensors
        gradient = gradient.contiguous()
        for_x, for_phi = torch.empty_like(x), torch.zeros_like(phi)
        for one, given, result in zip(x, gradient, for_x, strict=True):
            _call("hfsv_bands_backward", one, phi, given, *one.shape, result, for_phi)
        return for_x, for_phi


class _ChannelNorm(Function):
    """Norm over the channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        x, scale, shift = x.contiguous(), scale.contiguous(), shift.contiguous()
        out = torch.empty_like(x)
        for one, result in zip(x, out, strict=True):
            sizes = (len(one), one[0].numel(), NORM_EPSILON)
            _call("hfsv_norm_forward", one, scale, shift, *sizes, result)
        ctx.save_for_backward(x, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        gradient = gradient.contiguous()
        for_x = torch.empty_like(x)
        for_scale, for_shift = torch.zeros_like(scale), torch.zeros_like(scale)
        for one, given, result in zip(x, gradient, for_x, strict=True):
            sizes = (len(one), one[0].numel(), NORM_EPSILON)
            _call("hfsv_norm_backward", one, scale, given, *sizes, result, for_scale, for_shift)
        return for_x, for_scale, for_shift


def _applied(function: type[Function], *arguments: Any) -> Tensor:
    out: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return out


class FastOperations(Operations):
    """By the kernels, where there is one for the type; tensors must be on a CPU."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor, groups: int = 1) -> Tensor:
        depthwise = groups == x.shape[1] == len(weight) and groups > 1
        if groups > 1 and not depthwise:
            return super().convolve(x, weight, bias, groups)
        if x.dtype == torch.float64 and not torch.is_grad_enabled():
            return _convolve_double(x, weight, bias, depthwise)
        return _applied(_Convolve, x, weight, bias, depthwise)

    def gelu(self, x: Tensor) -> Tensor:
        return _applied(_Gelu, x) if _single(x) else super().gelu(x)

    def shuffled_gelu(self, x: Tensor, stride: int) -> Tensor:
        if not _single(x):
            return super().shuffled_gelu(x, stride)
        return _applied(_ShuffledGelu, x, stride)

    def upsampled_gelu(self, x: Tensor, stride: int) -> Tensor:
        if not _single(x):
            return super().upsampled_gelu(x, stride)
        return _applied(_Upsampled, x, stride, True)

    def upsampled(self, x: Tensor, stride: int) -> Tensor:
        if not _single(x):
            return super().upsampled(x, stride)
        return _applied(_Upsampled, x, stride, False)

    def in_range(self, logits: Tensor) -> Tensor:
        return _applied(_InRange, logits) if _single(logits) else super().in_range(logits)

    def gate(self, x: Tensor, logits: Tensor) -> Tensor:
        return _applied(_Gate, x, logits) if _single(x) else super().gate(x, logits)

    def band_features(self, x: Tensor, phi: Tensor) -> Tensor:
        return _applied(_BandFeatures, x, phi) if _single(x) else super().band_features(x, phi)

    def channel_norm(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        if not _single(x):
            return super().channel_norm(x, scale, shift)
        return _applied(_ChannelNorm, x, scale, shift)


def _single(x: Tensor) -> bool:
    return x.dtype == torch.float32


def _convolve_double(x: Tensor, weight: Tensor, bias: Tensor, depthwise: bool) -> Tensor:
    """Convolution in float64, of which no gradients can be taken.

    It is that of one image at a time, whose copy with borders is all the memory it needs.
    """
    x, layer, out = x.contiguous(), *_layer_of(x, weight, depthwise)
    _call("hfsv_layer_forward_double", byref(layer), x, weight.contiguous(), bias.contiguous(), out)
    return out


class _Rounded(Function):
    """Values rounded to multiples of their tensors' steps, and the bits of these."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, steps: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
        rounded, slopes = torch.empty_like(values), torch.empty_like(values)
        step_slopes, bits = torch.empty_like(steps), torch.empty_like(steps)
        ctx.tensors = len(steps)
        found = (rounded, slopes, step_slopes, bits)
        _call("hfsv_rate_forward", values, bounds, ctx.tensors, steps, *found)
        ctx.save_for_backward(values, steps, bounds, rounded, slopes, step_slopes)
        return rounded, bits.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor, price: Tensor) -> tuple[Tensor, Tensor, None]:
        values, steps, bounds, rounded, slopes, step_slopes = ctx.saved_tensors
        gradients, for_steps = torch.empty_like(values), step_slopes.clone()
        _call(
            "hfsv_rate_backward",
            values,
            bounds,
            ctx.tensors,
            steps,
            rounded,
            slopes,
            given.contiguous(),
            float(price),
            gradients,
            for_steps,
        )
        return gradients, for_steps, None


def rounded_values(values: Tensor, steps: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded values of flat tensors and their bits: see :mod:`nervcodec.training.rate`.

    Args:
        values: (N,), all tensors one behind the other.
        steps: (T,), one for each tensor.
        bounds: (T + 1,) int64, where they begin and end.
    """
    rounded, bits = _Rounded.apply(values, steps, bounds)  # type: ignore[no-untyped-call]
    return rounded, bits
