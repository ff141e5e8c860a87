"""The compiled kernels of ``kernels.c``, reached through ctypes.

setup.py compiles them where there is a compiler; where there was none, :func:`load` is None.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

FLOATS = POINTER(c_float)

PLAIN, GELU, ADD, SHUFFLE_GELU = range(4)
"""What :c:func:`hfsv_convolve` does with its sums, beside adding the bias."""

NOT_A_NUMBER = 1
"""What :c:func:`hfsv_samples` returns of a frame that has a NaN."""

NAME = "_kernels"


class ConvolutionStruct(Structure):
    """``struct convolution`` of kernels.c."""

    _fields_ = (
        *((name, c_int32) for name in ("inputs", "outputs", "taps")),
        *((name, c_int32) for name in ("rows", "step", "products", "terms")),
        *((name, FLOATS) for name in ("input_transform", "output_transform", "weights", "bias")),
    )


class MapStruct(Structure):
    """``struct map`` of kernels.c."""

    _fields_ = (
        ("values", FLOATS),
        *((name, c_int32) for name in ("height", "width", "pitch")),
        ("plane", c_int64),
    )


class WinogradStruct(Structure):
    """``struct winograd`` of kernels.c."""

    _fields_ = (
        *((name, c_int32) for name in ("step", "products")),
        *((name, FLOATS) for name in ("before", "factors", "after", "gradients")),
    )


class LayerStruct(Structure):
    """``struct layer`` of kernels.c."""

    _fields_ = (
        *((name, c_int32) for name in ("images", "inputs", "outputs", "height", "width")),
        *((name, c_int32) for name in ("kernel", "depthwise")),
        ("winograd", POINTER(WinogradStruct)),
    )


_MAP, _CONVOLUTION = POINTER(MapStruct), POINTER(ConvolutionStruct)
_ROWS = (c_int32, c_int32)
_SIGNATURES = {
    "hfsv_level": (),
    "hfsv_convolve": (_CONVOLUTION, _MAP, _MAP, c_int32, _MAP, c_int32, *_ROWS),
    "hfsv_channel_attention": (_CONVOLUTION, _CONVOLUTION, _MAP, _MAP, *_ROWS),
    "hfsv_band_features": (_MAP, _MAP, c_int32, FLOATS, *_ROWS),
    "hfsv_upsample": (_MAP, _MAP, c_int32, c_int32, *_ROWS),
    "hfsv_gate": (_MAP, _MAP, c_int32, _MAP, c_int32, c_int32, *_ROWS),
    "hfsv_add": (_MAP, _MAP, c_int32, *_ROWS),
    "hfsv_samples": (_MAP, _MAP, c_int32, c_float, c_void_p, c_int32, c_int32, c_int32, *_ROWS),
    "hfsv_use_threads": (c_int32,),
    "hfsv_layer_forward": (POINTER(LayerStruct), *4 * (c_void_p,)),
    "hfsv_layer_forward_double": (POINTER(LayerStruct), *4 * (c_void_p,)),
    "hfsv_layer_backward": (POINTER(LayerStruct), *6 * (c_void_p,)),
    "hfsv_gelu_forward": (c_void_p, c_int64, *2 * (c_void_p,)),
    "hfsv_shuffle_forward": (c_void_p, *4 * (c_int32,), *2 * (c_void_p,)),
    "hfsv_shuffle_backward": (*2 * (c_void_p,), *4 * (c_int32,), c_void_p),
    "hfsv_upsample_forward": (c_void_p, *5 * (c_int32,), *2 * (c_void_p,)),
    "hfsv_upsample_backward": (*2 * (c_void_p,), *4 * (c_int32,), c_void_p),
    "hfsv_range_forward": (c_void_p, c_int64, c_void_p),
    "hfsv_range_backward": (*2 * (c_void_p,), c_int64, c_void_p),
    "hfsv_gate_forward": (*2 * (c_void_p,), c_int32, c_int32, c_int64, c_void_p),
    "hfsv_gate_backward": (*3 * (c_void_p,), c_int32, c_int32, c_int64, *2 * (c_void_p,)),
    "hfsv_norm_forward": (*3 * (c_void_p,), c_int32, c_int64, c_float, c_void_p),
    "hfsv_norm_backward": (*3 * (c_void_p,), c_int32, c_int64, c_float, *3 * (c_void_p,)),
    "hfsv_bands_forward": (*2 * (c_void_p,), *3 * (c_int32,), c_void_p),
    "hfsv_bands_backward": (*3 * (c_void_p,), *3 * (c_int32,), *2 * (c_void_p,)),
    "hfsv_rate_forward": (*2 * (c_void_p,), c_int32, *5 * (c_void_p,)),
    "hfsv_rate_backward": (*2 * (c_void_p,), c_int32, *4 * (c_void_p,), c_float, *2 * (c_void_p,)),
}


@cache
def load() -> ctypes.CDLL | None:
    """The library, or None where it was not compiled for this interpreter."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(NAME + suffix)
        if path.is_file():
            return _prepared(ctypes.CDLL(str(path)))
    return None


def _prepared(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        # All but the first take the instruction set before everything else.
        function.argtypes = (c_int32, *arguments) if arguments else ()
        function.restype = c_int32
    return library


@cache
def level() -> int:
    """The most that this CPU has: 0 for any, 1 for AVX2, 2 for AVX-512."""
    library = load()
    return 0 if library is None else int(library.hfsv_level())
