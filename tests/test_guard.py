"""A training that has lost its frames goes back, and on at half the rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from format_helpers import tiny_model

from nervcodec.config import ADAM, SOAP, TrainConfig
from nervcodec.training.guard import KEEP_EVERY, LOOK_EVERY, Guard
from nervcodec.training.trainer import Trainer

CPU = torch.device("cpu")


def clip(count: int = 5) -> npt.NDArray[np.uint8]:
    """Smooth waves that move, (count, 21, 26, 3)."""
    n, y, x = np.mgrid[:count, :21, :26] / 6.0
    waves = [np.sin(x + n), np.cos(y - 2 * n), np.sin((x + y) / 2 + n)]
    return np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def looks(guard: Guard, error: float, target: torch.Tensor, begin: int = 0) -> bool:
    """What a guard says after as many steps as it looks over, all with one error."""
    found = []
    for step in range(begin, begin + LOOK_EVERY):
        guard.see(torch.tensor([error]), target)
        found.append(guard.lost(step + 1))
    assert not any(found[:-1])
    return found[-1]


def waves() -> torch.Tensor:
    """A frame whose channels have a variance of 0.02 each, around means of their own."""
    x = torch.arange(100) * 2 * torch.pi / 25
    rows = torch.stack([0.2 * x.sin() + mean for mean in (0.2, 0.5, 0.8)])
    return rows.view(1, 3, 10, 10)


def test_one_colour_a_frame_is_a_loss_where_there_was_more() -> None:
    guard = Guard(CPU)
    assert not looks(guard, 0.03, waves())  # not learned yet
    assert not looks(guard, 0.009, waves())
    assert not looks(guard, 0.019, waves())
    assert looks(guard, 0.021, waves())


def test_what_is_not_a_number_is_a_loss() -> None:
    guard = Guard(CPU)
    looks(guard, 0.001, waves())
    assert looks(guard, float("nan"), waves())


def test_frames_without_a_picture_are_never_lost() -> None:
    guard, black = Guard(CPU), torch.zeros(1, 3, 10, 10)
    assert not looks(guard, 1e-5, black)
    assert not looks(guard, 9e-4, black)


def test_the_older_of_two_states_is_gone_back_to() -> None:
    guard = Guard(CPU)
    guard.keep(KEEP_EVERY, lambda: {"w": torch.tensor(0.0)})
    looks(guard, 0.001, waves())
    value = torch.tensor(1.0)

    def state() -> dict[str, torch.Tensor]:
        return {"w": value}

    for number in (1, 2, 3):
        guard.keep(number * KEEP_EVERY, state)
        guard.keep(number * KEEP_EVERY + 1, lambda: {"w": torch.tensor(9.0)})
        value += 1
    assert float(guard.go_back()["w"]) == 2.0
    assert float(guard.go_back()["w"]) == 2.0
    assert float(guard.factor) == 0.25


def break_at(steps: set[int], **config: Any) -> tuple[Trainer, float]:
    """Train, and make the frames black after those steps; the trainer and its PSNR in the end."""
    settings = {"epochs": 200, "batch": 5, "rate_weight": 1e-4} | config
    trainer = Trainer(clip(), tiny_model(), TrainConfig(**settings), CPU)

    @torch.no_grad()
    def proceed() -> bool:
        if trainer.step in steps:
            trainer._weights["decoder.head.bias"].fill_(-50.0)
        return True

    psnr = trainer.train(proceed=proceed).psnr
    assert psnr is not None
    return trainer, psnr


@pytest.mark.parametrize("steps", [{110}, {80}, {150, 190}])
def test_a_lost_training_goes_on_from_before(steps: set[int]) -> None:
    sound, expected = break_at(set())
    broken, psnr = break_at(steps)
    assert float(sound._guard.factor) == 1.0
    assert float(broken._guard.factor) == 0.5 ** len(steps)
    assert expected > 25.0
    assert psnr > 18.0


def test_without_a_guard_it_would_stay_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guard, "lost", lambda *_: False)
    assert break_at({150})[1] < 8.0


# --- the learning rate --------------------------------------------------------------------------


def test_wide_networks_learn_more_slowly() -> None:
    config = TrainConfig(optimizer=SOAP)
    assert config.peak_rate(20) == config.peak_rate(47) == 7e-3
    assert config.peak_rate(66) == pytest.approx(5e-3)
    assert config.peak_rate(132) == pytest.approx(2.5e-3)
    assert TrainConfig(optimizer=ADAM).peak_rate(132) == TrainConfig(optimizer=ADAM).peak_rate(1)
    assert TrainConfig(learning_rate=0.02).peak_rate(132) == 0.02
