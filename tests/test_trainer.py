"""Training: the schedule, the same bytes for the same seed, and a loss that falls."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from format_helpers import tiny_model

from nervcodec.bitstream.segment import Segment, encode_segment
from nervcodec.bitstream.syntax import Attention, ModelSpec
from nervcodec.bitstream.tensors import tensor_specs
from nervcodec.config import ADAM, TrainConfig
from nervcodec.errors import CheckpointError
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.training import schedule, trainer
from nervcodec.training.checkpoint import TrainerState
from nervcodec.training.order import FrameOrder
from nervcodec.training.progress import TrainedNetwork, TrainProgress
from nervcodec.training.quantization import quantize
from nervcodec.training.schedule import Gains, Schedule, rate_factor
from nervcodec.training.soap import Soap
from nervcodec.training.trainer import Trainer

WIDTH, HEIGHT, COUNT = 26, 21, 5
CPU = torch.device("cpu")


def clip() -> npt.NDArray[np.uint8]:
    """Smooth waves that move, (5, 21, 26, 3)."""
    n, y, x = np.mgrid[:COUNT, :HEIGHT, :WIDTH] / 6.0
    waves = [np.sin(x + n), np.cos(y - 2 * n), np.sin((x + y) / 2 + n)]
    return np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def train(
    progress: Callable[[TrainProgress], None] | None = None,
    model: ModelSpec | None = None,
    **config: Any,
) -> TrainedNetwork:
    settings = {"epochs": 3, "batch": 2} | config
    return Trainer(clip(), model or tiny_model(), TrainConfig(**settings), CPU).train(progress)


def coded(trained: TrainedNetwork) -> bytes:
    """The bytes of a segment that the network makes."""
    specs = tensor_specs(tiny_model(), WIDTH, HEIGHT, COUNT)
    tensors = tuple(quantize(spec, trained.tensors[spec.name]) for spec in specs)
    return encode_segment(Segment(0, 0, COUNT, tiny_model(), tensors))[0]


# --- the schedule -------------------------------------------------------------------------------


def test_the_rate_warms_up_and_then_falls_to_nothing() -> None:
    rates = [rate_factor(step / 1000, 0.1) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.1 + 0.9 * 0.5)
    assert rates[100] == pytest.approx(1)
    assert rates[550] == pytest.approx(0.5)
    assert rates[325] == pytest.approx((1 + 0.5**0.5) / 2)
    assert 0 < rates[-1] < 2e-5
    assert np.all(np.diff(rates[:101]) > 0)
    assert np.all(np.diff(rates[100:]) < 0)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_short_schedules_stay_in_range(warmup: float, steps: int) -> None:
    rates = [rate_factor(step / steps, warmup) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)


def test_without_warmup_the_rate_starts_at_its_peak() -> None:
    assert rate_factor(0.0, 0.0) == 1


def test_the_optimizer_gets_the_scheduled_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[float]] = {}
    original = Soap.step

    def record(self: Soap, rate: float) -> None:
        seen.setdefault(id(self), []).append(rate)
        original(self, rate)

    monkeypatch.setattr(Soap, "step", record)
    train(epochs=3, batch=2, learning_rate=0.5, rate_weight=0.0)
    decoder, encoder = seen.values()
    # 5 frames make 3 batches of 2; in the second half the embeddings are free.
    assert decoder == [0.5 * rate_factor(step / 9, 0.1) for step in range(9)]
    assert encoder == decoder[:5]


# --- by the clock -------------------------------------------------------------------------------


class Clock:
    """Every look at it takes a tenth of a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.1
        return self.now


def test_a_training_by_the_clock_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "time", Clock())
    reports: list[TrainProgress] = []
    trainer = Trainer(clip(), tiny_model(), TrainConfig(seconds=5.0, batch=2), CPU)
    trainer.train(reports.append)
    assert trainer.finished
    # A step looks once: 50 steps of 3 an epoch.
    assert trainer.step == 50
    assert trainer.epochs_done == 16
    assert reports[-1].steps == 50
    assert reports[-1].eta == 0


@pytest.mark.parametrize("seconds", [0.001, 0.3, 0.7, 1.1, 3.3, 1234.567])
def test_every_time_has_an_end(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.linspace(0, 10 * seconds, 101).tolist())
    monkeypatch.setattr(schedule, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    plan = Schedule(1, seconds)
    plan.start()
    steps = 0
    while not plan.finished:
        plan.advance()
        steps += 1
    assert steps == 10
    assert plan.share == 1


def test_it_goes_on_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "time", Clock())

    def make() -> Trainer:
        return Trainer(clip(), tiny_model(), TrainConfig(seconds=5.0, batch=2), CPU)

    first = make()
    first.train(proceed=lambda: first.step < 30)
    second = make()
    second.restore(first.state())
    second.train()
    assert second.step == 50


# --- precision ----------------------------------------------------------------------------------


def test_bfloat16_trains_almost_as_well() -> None:
    plain, half = (train(epochs=60, batch=1, precision=p) for p in ("float32", "bfloat16"))
    assert plain.psnr is not None
    assert half.psnr is not None
    assert half.psnr != plain.psnr
    assert half.psnr > plain.psnr - 1.0
    assert all(values.dtype == np.float32 for values in half.tensors.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_trains_as_well(precision: str) -> None:
    config = TrainConfig(epochs=60, batch=1, precision=precision)
    found = Trainer(clip(), tiny_model(), config, torch.device("cuda")).train()
    expected = train(epochs=60, batch=1)
    assert found.psnr is not None
    assert expected.psnr is not None
    assert found.psnr > expected.psnr - 1.5


# --- early ends ---------------------------------------------------------------------------------


def test_a_training_that_gains_too_little_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    def record(share: float, warmup: float) -> float:
        shares.append(share)
        return rate_factor(share, warmup)

    monkeypatch.setattr(trainer, "rate_factor", record)
    config = TrainConfig(epochs=60, batch=5, least_gain=1e9)
    made = Trainer(clip(), tiny_model(), config, CPU)
    made.train()
    # Watched from epoch 27 on, over 6 epochs; the last quarter follows.
    assert made.step == math.ceil(32 / 0.75) == 43
    assert shares[31] == pytest.approx(31 / 60)
    assert shares[32] == pytest.approx(0.75, abs=0.01)
    assert shares[-1] == pytest.approx(42 / 43)


def test_one_that_gains_enough_does_not() -> None:
    config = TrainConfig(epochs=30, batch=5, least_gain=1e-6)
    trainer = Trainer(clip(), tiny_model(), config, CPU)
    trainer.train()
    assert trainer.step == 30


def test_an_early_end_is_kept_in_the_state() -> None:
    def make() -> Trainer:
        config = TrainConfig(epochs=60, batch=5, least_gain=1e9)
        return Trainer(clip(), tiny_model(), config, CPU)

    whole, first, second = make(), make(), make()
    expected = whole.train()
    first.train(proceed=lambda: first.step < 40)
    second.restore(first.state())
    assert coded(second.train()) == coded(expected)
    assert second.step == whole.step == 43


def test_gains_are_a_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = iter(range(20))
    clock = SimpleNamespace(perf_counter=lambda: 60.0 * next(minutes))
    monkeypatch.setattr(schedule, "time", clock)
    gains = Gains(0.5)
    told = [gains.too_small(30 + min(epoch, 10)) for epoch in range(20)]
    assert told.index(True) == 13
    assert all(told[13:])


# --- determinism --------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = train(seed=7), train(seed=7)
    assert first.psnr == second.psnr
    assert coded(first) == coded(second)


def test_another_seed_gives_other_bytes() -> None:
    assert coded(train(seed=7)) != coded(train(seed=8))


def test_the_seed_decides_the_order_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[list[int]] = []
    original = FrameOrder.epoch

    def record(self: FrameOrder, done: int) -> Any:
        batches = list(original(self, done))
        orders.append([int(i) for batch in batches for i in batch])
        return iter(batches)

    monkeypatch.setattr(FrameOrder, "epoch", record)
    train(seed=1, epochs=6)
    train(seed=2, epochs=6)
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len({tuple(order) for order in orders[:6]}) > 1
    assert orders[:6] != orders[6:]


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    train(seed=5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


def test_the_callers_random_numbers_have_no_influence() -> None:
    torch.manual_seed(1)
    first = coded(train(seed=5))
    torch.manual_seed(2)
    assert coded(train(seed=5)) == first


def test_watching_changes_nothing() -> None:
    assert coded(train(lambda _: None)) == coded(train())


# --- what comes out -----------------------------------------------------------------------------


@pytest.mark.parametrize("attention", Attention)
@pytest.mark.parametrize("hfs_weight", [0.0, 0.12])
def test_training_brings_the_frames_nearer(attention: Attention, hfs_weight: float) -> None:
    model = tiny_model(attention)
    start = train(model=model, epochs=1, learning_rate=1e-9, hfs_weight=hfs_weight)
    end = train(model=model, epochs=40, batch=1, learning_rate=1e-2, hfs_weight=hfs_weight)
    assert end.psnr > start.psnr + 2


def test_the_result_is_what_the_decoder_needs() -> None:
    frames = clip()
    result = train(epochs=10, rate_weight=0.0)
    assert result.steps is None
    specs = tensor_specs(tiny_model(), WIDTH, HEIGHT, COUNT)
    assert {name: t.shape for name, t in result.tensors.items()} == {s.name: s.shape for s in specs}
    assert all(t.dtype == np.float32 and t.flags.c_contiguous for t in result.tensors.values())
    decoder = FrameDecoder(tiny_model(), WIDTH, HEIGHT)
    tensors = {name: torch.from_numpy(t) for name, t in result.tensors.items()}
    embedding = tensors.pop("embedding")
    decoder.load_state_dict(tensors)
    with torch.no_grad():
        rgb = decoder(embedding).permute(0, 2, 3, 1).numpy()
    error = np.square(np.round(255 * rgb) - frames.astype(float)).mean(axis=(1, 2, 3))
    assert result.psnr == pytest.approx(np.mean(10 * np.log10(255**2 / error)), abs=0.01)


def test_the_frames_are_left_alone() -> None:
    frames = clip()
    Trainer(frames, tiny_model(), TrainConfig(epochs=2), CPU).train()
    np.testing.assert_array_equal(frames, clip())


def test_one_frame_and_large_batches() -> None:
    single = Trainer(clip()[:1], tiny_model(), TrainConfig(epochs=2, batch=8), CPU).train()
    assert single.tensors["embedding"].shape[0] == 1
    assert np.isfinite(single.psnr)


def test_progress_counts_epochs_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    reports: list[TrainProgress] = []
    train(reports.append, epochs=3, batch=2, rate_weight=0.0)
    assert [(r.epoch, r.step) for r in reports] == [(1 + s // 3, 1 + s) for s in range(9)]
    assert all((r.epochs, r.steps) == (3, 9) for r in reports)
    assert all(r.loss > 0 and 0 < r.psnr < 100 and r.seconds_per_step > 0 for r in reports)
    assert reports[-1].eta == 0
    left = 8 - trainer.FREE_SAVING * 4.5  # of which the content encoder is left out
    assert reports[0].eta == pytest.approx(left * reports[0].seconds_per_step)


def test_the_time_left_counts_what_the_later_steps_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    reports: list[TrainProgress] = []
    train(reports.append, epochs=10, batch=COUNT)
    begun, free = 7 * trainer.ROUNDED_COST, 5 * trainer.FREE_SAVING
    assert reports[0].eta == pytest.approx((9 + begun - free) * reports[0].seconds_per_step)
    after, left = reports[5], 4 * (1 + trainer.ROUNDED_COST - trainer.FREE_SAVING)
    done = 6 + 3 * trainer.ROUNDED_COST - trainer.FREE_SAVING
    assert after.eta == pytest.approx(6 * after.seconds_per_step * left / done)


def test_progress_is_rare_but_the_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 1e9)
    monkeypatch.setattr(trainer.time, "perf_counter", iter(range(10**6)).__next__)
    reports: list[TrainProgress] = []
    train(reports.append, epochs=3, batch=2, rate_weight=0.0)
    assert [r.step for r in reports] == [9]


def test_an_error_of_the_callback_ends_the_training() -> None:
    def stop(_: TrainProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stop)


# --- stopping and going on ----------------------------------------------------------------------


def make_trainer(batch: int = 2, **config: Any) -> Trainer:
    settings = {"epochs": 3, "batch": batch} | config
    return Trainer(clip(), tiny_model(), TrainConfig(**settings), CPU)


def stopped_at(step: int, batch: int = 2) -> tuple[Trainer, TrainerState, TrainedNetwork]:
    """A trainer stopped after ``step`` steps, its state then, and the network it returned."""
    states: list[TrainerState] = []
    halted = make_trainer(batch)

    def proceed() -> bool:
        states.append(halted.state())
        return halted.step < step

    network = halted.train(proceed=proceed)
    assert len(states) == step == halted.step
    return halted, states[-1], network


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_restored_training_ends_bit_by_bit_the_same(batch: int) -> None:
    whole = coded(make_trainer(batch).train())
    steps = 3 * -(-COUNT // batch)
    for step in sorted({1, 2, steps // 3, steps // 2, steps - 1, steps}):
        _, state, _ = stopped_at(step, batch)
        second = make_trainer(batch)
        second.restore(state)
        assert same_state(second.state(), state)
        assert coded(second.train()) == whole, step


def same_state(first: TrainerState, second: TrainerState) -> bool:
    return (first.step, first.shuffler) == (second.step, second.shuffler) and all(
        np.array_equal(values, second.tensors[name]) for name, values in first.tensors.items()
    )


def test_a_state_does_not_change_while_the_training_goes_on() -> None:
    halted, state, _ = stopped_at(4)
    kept = {name: values.copy() for name, values in state.tensors.items()}
    halted.train()
    assert all(np.array_equal(kept[name], values) for name, values in state.tensors.items())


def test_a_stopped_training_returns_averaged_weights() -> None:
    _, state, network = stopped_at(7, batch=1)
    assert network.psnr is None
    for name, values in network.tensors.items():
        if name != "embedding":
            np.testing.assert_array_equal(values, state.tensors[f"average.decoder.{name}"])
            assert not np.array_equal(values, state.tensors[f"weight.decoder.{name}"])


def test_the_averages_follow_the_weights() -> None:
    """With one step an epoch the lag is one step: the average is the weights themselves."""
    _, state, _ = stopped_at(3, batch=5)
    name = "decoder.head.weight"
    np.testing.assert_array_equal(state.tensors[f"average.{name}"], state.tensors[f"weight.{name}"])


def test_averaged_weights_are_better_in_the_middle_of_a_schedule() -> None:
    def psnr_of(kind: str, state: TrainerState) -> float:
        probe = make_trainer(batch=1, epochs=60, optimizer=ADAM, rate_weight=0.0)
        final = {
            name: values if not name.startswith("weight.") else state.tensors[kind + name[6:]]
            for name, values in state.tensors.items()
        }
        probe.restore(replace(state, step=300, tensors=final))
        psnr = probe.train().psnr
        assert psnr is not None
        return psnr

    halted = make_trainer(batch=1, epochs=60, optimizer=ADAM, rate_weight=0.0)
    states: list[TrainerState] = []

    def proceed() -> bool:
        if halted.step % 5 == 0 and halted.step >= 40:
            states.append(halted.state())
        return halted.step < 80

    halted.train(proceed=proceed)
    gains = [psnr_of("average", state) - psnr_of("weight", state) for state in states]
    assert np.mean(gains) > 0


@pytest.mark.parametrize("step", [0, -1, 10])
def test_a_state_of_an_impossible_step_is_refused(step: int) -> None:
    _, state, _ = stopped_at(2)
    with pytest.raises(CheckpointError, match="step"):
        make_trainer().restore(replace(state, step=step))


def test_a_state_of_another_network_is_refused() -> None:
    _, state, _ = stopped_at(2)
    for name in (
        "weight.decoder.head.bias",
        "average.decoder.head.bias",
        "decoder.exp_avg",
        next(name for name in state.tensors if name.endswith("left_basis")),
        "steps.weights",
        "memory.embedding",
    ):
        for tensors in (
            {key: values for key, values in state.tensors.items() if key != name},
            state.tensors | {name: np.zeros(4, dtype=np.float32)},
        ):
            with pytest.raises(CheckpointError, match=re.escape(name)):
                make_trainer().restore(replace(state, tensors=tensors))


@pytest.mark.parametrize("shuffler", [b"", bytes(10), bytes(6000)])
def test_a_damaged_generator_is_refused(shuffler: bytes) -> None:
    _, state, _ = stopped_at(2)
    with pytest.raises(CheckpointError, match="generator"):
        make_trainer().restore(replace(state, shuffler=shuffler))


def test_resumed_steps_are_left_out_of_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, state, _ = stopped_at(8)
    second = make_trainer()
    second.restore(state)
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: float(next(clock)))
    told: list[TrainProgress] = []
    second.train(told.append)
    assert [state.step for state in told] == [9]
    assert told[0].seconds_per_step == 10.0
