"""The frozen integer frequency tables (spec section 6), made with integer arithmetic alone.

Tables 0-31 are discretised Laplace distributions, 32-63 discretised Gaussians, both over the
256 symbols and centred on 128. :mod:`nervcodec.bitstream.entropy` uses them.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt

PRECISION = 24
TOTAL = 1 << PRECISION
"""Sum of every table; the entropy coder works on 24-bit probabilities."""

ALPHABET = 256
CENTRE = 128
LAPLACE_TABLES = 32

FIRST_RATIO = (
    38519092,
    90127717,
    180911775,
    320262847,
    511467228,
    750699934,
    1028166770,
    1330541637,
    1643625925,
    1954465432,
    2252619497,
    2530630250,
    2783912793,
    3010316285,
    3209558721,
    3382668369,
    3531502366,
    3658368385,
    3765748531,
    3856111452,
    3931794188,
    3994935683,
    4047446489,
    4091002472,
    4127053429,
    4156840192,
    4181415830,
    4201668112,
    4218341474,
    4232057496,
    4243333390,
    4252598328,
    16604001,
    102784064,
    349822719,
    796574788,
    1384636467,
    2007502593,
    2576565532,
    3046919999,
    3410248108,
    3678381710,
    3870271760,
    4004786039,
    4097776964,
    4161463711,
    4204807408,
    4234181666,
    4254032287,
    4267421413,
    4276440723,
    4282511162,
    4286594501,
    4289340129,
    4291185801,
    4292426284,
    4293259920,
    4293820099,
    4294196504,
    4294449415,
    4294619344,
    4294733517,
    4294810227,
    4294861767,
)
"""Ratio of the frequencies of symbols 129 and 128, times 2**32, one for each table."""


def _weights(table: int) -> list[int]:
    """Unnormalised weight of each distance 0..128 from the centre."""
    ratio = FIRST_RATIO[table]
    step = 1 << 32 if table < LAPLACE_TABLES else ratio * ratio >> 32
    weights = [1 << 48]
    for _ in range(CENTRE):
        weights.append(weights[-1] * ratio >> 32)
        ratio = ratio * step >> 32
    return weights


@cache
def frozen_table(table: int) -> npt.NDArray[np.int64]:
    """Frequencies (256,), each at least 1, summing to 2**24, of frozen table 0..63."""
    weights = _weights(table)
    by_symbol = [weights[abs(symbol - CENTRE)] for symbol in range(ALPHABET)]
    total = sum(by_symbol)
    frequencies = [1 + weight * (TOTAL - ALPHABET) // total for weight in by_symbol]
    frequencies[CENTRE] += TOTAL - sum(frequencies)
    result = np.array(frequencies, dtype=np.int64)
    result.flags.writeable = False
    return result


@cache
def all_tables() -> npt.NDArray[np.int64]:
    """All frozen tables, (64, 256)."""
    return np.stack([frozen_table(table) for table in range(len(FIRST_RATIO))])


def tables_digest() -> str:
    """SHA-256 over all tables as little-endian u32, in order; the spec states its value."""
    return hashlib.sha256(all_tables().astype("<u4").tobytes()).hexdigest()
