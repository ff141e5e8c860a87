"""Convolution with fewer multiplications along the columns (Winograd; Cook and Toom).

``m`` sums of ``k`` products each, over neighbouring places, take m + k - 1 multiplications of
transformed values in place of m k. Only one axis is treated so: two would save more and lose
digits, and the bound on fast frames (bitstream_spec.md, section 9) is tight.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import lcm

import numpy as np
import numpy.typing as npt

PAIRS = {8: ("1", "2", "1/2"), 10: ("1", "3", "1/3", "4/3")}
"""By n, where polynomials are evaluated, and at the negatives, beside 0 and infinity.

Of all sets of twelve simple fractions these lose the fewest digits: 2.8 and 5.5 to 7.5 times the
rounding error of plain sums of 30 channels (with 1, 2, 1/2 and 4 it is 17 times).
"""

Matrix = npt.NDArray[np.float64]
Rows = list[list[Fraction]]


@cache
def transforms(outputs: int, kernel: int) -> tuple[Matrix, Matrix, Matrix]:
    """Matrices A (m, n), G (n, k) and B (n, n), n = m + k - 1.

    With ``data`` of n values, ``A @ ((G @ weights) * (B @ data))`` are the m sums
    ``sum over j of weights[j] * data[i + j]``. The entries of B are integers.
    """
    count = outputs + kernel - 1
    inverse = _inverse(_evaluation(count, count))
    scales = [Fraction(lcm(*(row[i].denominator for row in inverse))) for i in range(count)]
    before = [[inverse[j][i] * scales[i] for j in range(count)] for i in range(count)]
    weights = [
        [value / scales[i] for value in row] for i, row in enumerate(_evaluation(count, kernel))
    ]
    after = list(zip(*_evaluation(count, outputs), strict=True))
    return _array(after), _array(weights), _array(before)


def _evaluation(count: int, coefficients: int) -> Rows:
    """Rows that evaluate a polynomial at each point; the last, at infinity, takes its lead."""
    points = [Fraction(0)]
    for text in PAIRS[count]:
        points += [Fraction(text), -Fraction(text)]
    rows = [[point**power for power in range(coefficients)] for point in points]
    return [*rows, [Fraction(0)] * (coefficients - 1) + [Fraction(1)]]


def _inverse(matrix: Rows) -> Rows:
    """By Gauss and Jordan, exactly."""
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i in range(size):
            if i != column and rows[i][column]:
                factor = rows[i][column]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column], strict=True)]
    return [row[size:] for row in rows]


def _array(rows: object) -> Matrix:
    return np.array(rows, dtype=np.float64)
