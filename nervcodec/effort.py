"""How many parameters a training can teach: by its steps, or by those that its time allows."""

from __future__ import annotations

import math

from nervcodec.bitstream.tensors import macs_per_frame
from nervcodec.config import EncodeConfig, ModelConfig
from nervcodec.inference import select_device
from nervcodec.rate_control import MAX_DEFAULT_PARAMS, design_model, least_params
from nervcodec.segments import SegmentPlan

PARAMS_PER_STEP = 400
"""More than so many a training step are not learnt: on 30 frames of 1280x640 460 k made 21.5 dB in
296 kB after 150 steps, 60 k made 22.4 dB in 42 kB. After 600 120 k to 460 k were as good, after
1320 480 k paid."""

STEP, STEP_A_GMAC, STEP_A_MEGAPIXEL = 0.015, 0.084, 0.136
"""Seconds of one thread for a training step, and in it for each frame by its network's
multiplications and its size: within 15 % of 17 trainings of 14 k to 480 k parameters, from 176x144
to 1280x640."""

CHECK_A_GMAC, CHECK_A_MEGAPIXEL = 0.14, 1.0
"""The same for a frame that is decoded again in float64 and measured, by MS-SSIM above all."""

PRECISION = 1.05
"""Factor to which parameters are found that fit a time, which is an estimate anyway."""


def teachable_params(
    config: EncodeConfig, model: ModelConfig, segments: SegmentPlan, width: int, height: int
) -> int | None:
    """Parameters of all segments' networks that their trainings can teach.

    Where the clock ends them that is an estimate for one thread of a CPU, in which only the
    settings count, so that an encode that is gone on with has the same networks; None where
    nothing is known of the machines.
    """
    train = config.train
    if config.time is None:
        if train.seconds is not None:
            return None
        steps = train.epochs * sum(-(-frames // train.batch) for frames in segments.lengths)
        return PARAMS_PER_STEP * steps
    if config.executor not in (None, "processes") or select_device(config.device).type != "cpu":
        return None
    count = len(segments.lengths)
    frames = max(1, segments.frames // count)
    seconds = config.time.total_seconds() * (config.workers or 1) / count

    def steps_with(params: int) -> float:
        """Of a segment with so many."""
        network = design_model(model, params, width, height, frames)
        gmac, megapixels = macs_per_frame(network, width, height) / 1e9, width * height / 1e6
        check = frames * (CHECK_A_GMAC * gmac + CHECK_A_MEGAPIXEL * megapixels)
        a_frame = STEP_A_GMAC * gmac + STEP_A_MEGAPIXEL * megapixels
        return (seconds - check) / (STEP + train.batch * a_frame)

    low, high = least_params(model, width, height, frames), MAX_DEFAULT_PARAMS
    while high > PRECISION * low:
        middle = round(math.sqrt(low * high))
        if middle <= PARAMS_PER_STEP * steps_with(middle):
            low = middle
        else:
            high = middle
    return count * low
