"""Rate-aware training: the estimate of the rate, the steps, and sizes that are kept to."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import moving_pattern, write_clip

import nervcodec
from nervcodec.bitstream.entropy import coded_bits
from nervcodec.bitstream.segment import Segment, encode_segment
from nervcodec.bitstream.tables import CENTRE
from nervcodec.bitstream.tensors import DETAIL, EMBEDDING, TensorSpec, tensor_specs
from nervcodec.config import (
    EncodeConfig,
    ModelConfig,
    SizeTarget,
    TrainConfig,
    parse_count,
    rate_weight,
)
from nervcodec.errors import TargetError, UsageError
from nervcodec.rate_control import design_model
from nervcodec.training.progress import TrainedNetwork
from nervcodec.training.quantization import _cheaper, quantize, quantize_network
from nervcodec.training.rate import EmbeddingSteps, WeightSteps
from nervcodec.training.trainer import Trainer

CPU = torch.device("cpu")


def test_the_rate_of_weights_is_near_what_they_are_coded_in() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn(40, 30, 3, 3, generator=generator), "b": torch.randn(2000)}
    steps = WeightSteps(weights, CPU)
    steps.begin(weights)
    for shift, precision in ((0.0, 0.02), (1.0, 0.02), (1.0, 0.02), (1.0, 0.08)):
        with torch.no_grad():
            steps.logs += shift
        found = steps.rounded(weights)
        coded = 0.0
        for name, step in steps.steps().items():
            symbols = (found.values[name] / step).round() + CENTRE
            assert torch.equal((symbols - CENTRE) * step, found.values[name])
            coded += coded_bits(symbols.detach().numpy().astype(np.uint8), CENTRE)
        assert float(found.bits.detach()) == pytest.approx(coded, rel=precision)


def test_the_rate_of_an_embedding_is_that_of_its_changes() -> None:
    """All frames at once, and one frame after the other, have the same rate and gradient."""
    generator = torch.Generator().manual_seed(3)
    walk = torch.randn(6, 2, 3, 4, generator=generator).cumsum(dim=0)
    steps = EmbeddingSteps(walk.shape, CPU)
    steps.begin(walk)
    leaf = walk.clone().requires_grad_()
    _, bits = steps.rounded(leaf, torch.arange(6))
    torch.autograd.backward(bits)
    singles = [steps.rounded(walk[n : n + 1], torch.tensor([n]))[1].detach() for n in range(6)]
    assert sum(map(float, singles)) / 6 == pytest.approx(float(bits.detach()), rel=1e-5)
    whole = leaf.grad
    assert whole is not None
    for n in range(6):
        frame = walk[n : n + 1].clone().requires_grad_()
        torch.autograd.backward(steps.rounded(frame, torch.tensor([n]))[1] / 6)
        assert frame.grad is not None
        torch.testing.assert_close(frame.grad[0], whole[n], rtol=1e-4, atol=1e-5)


def test_a_walk_costs_less_than_noise_of_its_width() -> None:
    generator = torch.Generator().manual_seed(3)
    walk = torch.randn(200, 1, 2, 2, generator=generator).cumsum(dim=0)
    shuffled = walk[torch.randperm(200, generator=generator)]
    bits = []
    for values in (walk, shuffled):
        steps = EmbeddingSteps(values.shape, CPU)
        steps.begin(values)
        bits.append(float(steps.rounded(values, torch.arange(200))[1].detach()))
    assert bits[0] < bits[1] - 800


@pytest.mark.parametrize("extreme", [1e-30, 1e30])
def test_values_far_beyond_the_steps_stay_within_8_bits(extreme: float) -> None:
    weights = {"a": torch.tensor([1.0, -2.0, 3.0, extreme])}
    steps = WeightSteps({"a": torch.ones(4)}, CPU)
    steps.begin({"a": torch.ones(4)})
    found = steps.rounded(weights)
    symbols = (found.values["a"] / steps.steps()["a"]).round()
    assert symbols.min() >= -128
    assert symbols.max() <= 127
    assert math.isfinite(float(found.bits.detach()))


# --- training -----------------------------------------------------------------------------------


def trained(weight: float, epochs: int = 12, **model: int) -> tuple[Trainer, TrainedNetwork, int]:
    """The network of a small clip, and the bytes of its segment."""
    frames = moving_pattern(48, 36, 6)
    spec = design_model(ModelConfig(**model), 9_000, 48, 36, 6)
    trainer = Trainer(frames, spec, TrainConfig(epochs=epochs, rate_weight=weight), CPU)
    network = trainer.train()
    specs = tensor_specs(spec, 48, 36, 6)

    def coded(tensors: object) -> bytes:
        return encode_segment(Segment(0, 0, 6, spec, tuple(tensors)))[0]  # type: ignore[call-overload]

    tensors = quantize_network(specs, network.tensors, network.steps, coded)
    return trainer, network, len(coded(tensors))


def test_dearer_bits_make_smaller_files() -> None:
    sizes = [trained(weight)[2] for weight in (1e-6, 3e-2, 1.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.1 * sizes[2]


def test_the_size_is_known_while_training() -> None:
    trainer, network, size = trained(3e-2, detail_channels=2)
    assert network.steps is not None
    assert network.steps[EMBEDDING].shape == network.tensors[EMBEDDING].shape[1:2]
    assert network.steps[DETAIL].shape == (2,)
    assert trainer._begun is not None
    assert trainer._begun.bytes == pytest.approx(size, rel=0.02)


# --- sizes to keep to ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("rate") / "in.mp4", moving_pattern(64, 48, 12))


@pytest.mark.parametrize("target", [6_000, 9_000])
@pytest.mark.parametrize("keyint", [None, 6])
def test_a_file_keeps_to_its_size(
    tmp_path: Path, source: Path, target: int, keyint: int | None
) -> None:
    config = EncodeConfig(
        train=TrainConfig(epochs=25), size_target=SizeTarget(bytes=target), keyint=keyint
    )
    report = nervcodec.encode(source, tmp_path / "out.hfsv", config)
    assert 0.97 * target < report.file_bytes <= target
    assert (tmp_path / "out.hfsv").stat().st_size == report.file_bytes


def test_a_size_beyond_what_symbols_hold_spoils_nothing(tmp_path: Path, source: Path) -> None:
    """Steps once became ever finer, until all weights were cut off at the largest symbol."""
    found = []
    for target in (2_500, 40_000):
        config = EncodeConfig(
            train=TrainConfig(epochs=40),
            model=ModelConfig(params=1_500),
            size_target=SizeTarget(bytes=target),
        )
        found.append(nervcodec.encode(source, tmp_path / f"{target}.hfsv", config))
    assert found[0].file_bytes < found[1].file_bytes < 10_000
    assert found[1].psnr > found[0].psnr - 3.0


def test_ever_so_many_segments_have_the_narrowest_networks(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_pattern(64, 48, 40))
    config = EncodeConfig(train=TrainConfig(epochs=1), keyint=1)
    plan = nervcodec.estimate(source, config)
    assert plan.params > 8_000
    assert nervcodec.encode(source, tmp_path / "out.hfsv", config).frames == 40


def test_bit_rate_and_bits_a_pixel_are_sizes_too(tmp_path: Path, source: Path) -> None:
    sizes = []
    seconds = 12 / 25
    for target in (
        SizeTarget(bytes=6_000),
        SizeTarget(bits_per_pixel=8 * 6_000 / (64 * 48 * 12)),
        SizeTarget(bit_rate=8 * 6_000 / seconds),
    ):
        config = EncodeConfig(train=TrainConfig(epochs=4), size_target=target)
        sizes.append(nervcodec.encode(source, tmp_path / "out.hfsv", config).file_bytes)
        (tmp_path / "out.hfsv").unlink()
    assert max(sizes) <= 6_000


def test_a_size_without_room_is_refused(tmp_path: Path, source: Path) -> None:
    config = EncodeConfig(train=TrainConfig(epochs=1), size_target=SizeTarget(bytes=100))
    with pytest.raises(TargetError, match="no room for a network"):
        nervcodec.encode(source, tmp_path / "out.hfsv", config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "values",
    [{}, {"bytes": 5, "bit_rate": 5.0}, {"bytes": 0}, {"bit_rate": math.inf}],
)
def test_sizes_that_cannot_be_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        SizeTarget(**values)  # type: ignore[arg-type]


def test_six_crf_more_are_four_times_lambda() -> None:
    assert rate_weight(34) == pytest.approx(4 * rate_weight(28))
    assert parse_count("80k") == 80_000


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5])
def test_a_network_is_made_to_fit(share: float) -> None:
    trainer, network, size = trained(3e-2)
    spec = trainer._decoder.spec

    def coded(tensors: object) -> bytes:
        return encode_segment(Segment(0, 0, 6, spec, tuple(tensors)))[0]  # type: ignore[call-overload]

    specs = tensor_specs(spec, 48, 36, 6)
    fitted = quantize_network(specs, network.tensors, network.steps, coded, int(share * size))
    assert 0.97 * share * size < len(coded(fitted)) <= share * size


def test_cheaper_symbols_are_one_nearer_zero_where_little_is_lost() -> None:
    rng = np.random.default_rng(0)
    spec = TensorSpec("stem.weight", (40, 50, 1, 1))
    values = rng.normal(0, 3, spec.shape).astype(np.float32)
    tensor = quantize(spec, values, np.ones(1, np.float32))
    cheap, cheaper = (_cheaper(tensor, values, price) for price in (0.01, 0.3))
    for changed in (cheap, cheaper):
        moved = np.abs(tensor.symbols.astype(int) - 128) - np.abs(changed.symbols.astype(int) - 128)
        assert set(np.unique(moved)) == {0, 1}
        close = np.abs(np.abs(values - np.trunc(values)) - 0.5)[moved == 1]
        assert close.max() < 0.3
    bits = [coded_bits(t.symbols, 128) for t in (tensor, cheap, cheaper)]
    assert bits == sorted(bits, reverse=True)
    assert bits[2] < bits[0] - 25


def test_a_size_that_nothing_reaches_is_refused() -> None:
    trainer, network, _ = trained(3e-2, epochs=4)
    specs = tensor_specs(trainer._decoder.spec, 48, 36, 6)
    with pytest.raises(TargetError, match="does not fit 1 bytes"):
        quantize_network(specs, network.tensors, network.steps, lambda _: b"ab", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--crf", "20", "--target-size", "5k"],
        ["--lambda", "0", "--bpp", "0.1"],
        ["--crf", "61"],
        ["--min-psnr", "30", "--bpp", "0.1"],
        ["--min-psnr", "30", "--crf", "20"],
        ["--target-size", ""],
    ],
)
def test_options_that_exclude_each_other(
    tmp_path: Path, source: Path, arguments: list[str]
) -> None:
    program = [sys.executable, "-c", "from nervcodec.cli.main import main; main()"]
    command = [*program, "encode", str(source), str(tmp_path / "o.hfsv"), *arguments]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
    assert not list(tmp_path.iterdir())
