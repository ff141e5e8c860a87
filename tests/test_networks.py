"""The four networks with and without the paper's parts, from the command line to the frames."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import run

import nervcodec
from nervcodec.bitstream.syntax import Architecture, HfscmSpec, ModelSpec, TimeSpec
from nervcodec.bitstream.tensors import parameter_count
from nervcodec.config import (
    ADAM,
    E_NERV,
    HNERV,
    NERV,
    NETWORKS,
    SOAP,
    EncodeConfig,
    ModelConfig,
    TrainConfig,
)
from nervcodec.errors import UsageError
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.models.positions import encode_positions, frame_times, grid_positions
from nervcodec.rate_control import design_model
from nervcodec.training.trainer import Trainer
from tests.synthetic import moving_pattern, write_clip
from tools import reference_decoder

BY_NAME = {NERV: Architecture.NERV, E_NERV: Architecture.ENERV, HNERV: Architecture.HNERV}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return write_clip(folder / "in.mp4", moving_pattern(92, 60, 5))


# --- positions ------------------------------------------------------------------------------


def test_positions_are_sines_and_cosines_of_exact_turns() -> None:
    spec = TimeSpec(levels=80, base=Fraction(5, 4))
    found = encode_positions([0, 1, 131], 132, spec)
    assert found.shape == (3, 160)
    for row, position in zip(found, (0, 1, 131), strict=True):
        for level in range(80):
            turns = Fraction(5, 4) ** level * Fraction(position, 132) / 2
            angle = 2 * math.pi * float(turns - math.floor(turns))
            assert row[2 * level] == pytest.approx(math.sin(angle), abs=1e-15)
            assert row[2 * level + 1] == pytest.approx(math.cos(angle), abs=1e-15)


def test_a_low_level_is_the_plain_angle() -> None:
    found = encode_positions([3], 8, TimeSpec(levels=3, base=Fraction(2)))[0]
    angles = [math.pi * 3 / 8 * base for base in (1, 2, 4)]
    expected = [value for a in angles for value in (math.sin(a), math.cos(a))]
    assert found == pytest.approx(expected, abs=1e-14)


def test_places_have_their_row_before_their_column() -> None:
    spec = TimeSpec(levels=4)
    places = grid_positions(3, 5, spec)
    assert places.shape == (1, 16, 3, 5)
    rows, columns = encode_positions(range(3), 3, spec), encode_positions(range(5), 5, spec)
    for row, column in np.ndindex(3, 5):
        expected = np.concatenate([rows[row], columns[column]])
        assert np.array_equal(places[0, :, row, column].numpy(), expected)


def test_times_are_those_of_the_segment() -> None:
    spec = TimeSpec(levels=4)
    times = frame_times([2, 0], 7, spec)
    assert times.shape == (2, 8, 1, 1)
    assert np.array_equal(times[:, :, 0, 0].numpy(), encode_positions([2, 0], 7, spec))


# --- shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("width", "height", "params"), [(320, 160, 57_000), (1280, 640, 1_500_000), (176, 144, 40_000)]
)
def test_networks_fill_what_is_asked_for(
    network: str, parts: bool, width: int, height: int, params: int
) -> None:
    config = ModelConfig(network=network, hfscm=parts, msfrp=parts)
    model = design_model(config, params, width, height, 132)
    assert model.architecture == BY_NAME[network]
    assert (model.has_hfscm, model.msfrp_stage is not None) == (parts, parts)
    assert 0.9 * params <= parameter_count(model, width, height, 132) <= params


@pytest.mark.parametrize("network", [NERV, E_NERV])
def test_nerv_does_not_grow_with_the_clip(network: str) -> None:
    models = [
        design_model(ModelConfig(network=network), 60_000, 320, 160, frames) for frames in (1, 900)
    ]
    assert models[0] == models[1]


def test_nerv_has_the_proportions_of_its_paper() -> None:
    """A map of 16 x 8 at 1280x640, kernels of 3, and half the channels after each stage."""
    for network in (NERV, E_NERV):
        config = ModelConfig(network=network, hfscm=False, msfrp=False)
        model = design_model(config, 1_500_000, 1280, 640, 132)
        assert model.grid(1280, 640) == (8, 16)
        assert {stage.kernel for stage in model.stages} == {3}
        channels = [stage.channels for stage in model.stages]
        assert channels[0] == pytest.approx(model.stem_channels, abs=1)
        assert channels[1] == pytest.approx(channels[0] / 2, abs=1)
    assert model.head_kernel == 1


def test_the_stages_that_carry_hfscm_are_chosen() -> None:
    def carrying(*numbers: int) -> list[bool]:
        config = ModelConfig(hfscm_stages=numbers)
        return [stage.hfscm for stage in design_model(config, 57_000, 320, 160, 10).stages]

    assert carrying(0, 1, 2) == [True, True, True, False]
    assert carrying(-1) == [False, False, False, True]
    with pytest.raises(UsageError, match="4 stages"):
        carrying(4)


def test_phi_begins_as_asked_for() -> None:
    frames = moving_pattern(20, 12, 2)
    model = design_model(ModelConfig(), 12_000, 20, 12, 2)
    config = TrainConfig(epochs=1, phi=(1.0, 2.0, 3.0, 4.0))
    trainer = Trainer(frames, model, config, torch.device("cpu"))
    found = [p for name, p in trainer._decoder.named_parameters() if name.endswith("phi")]
    assert found
    assert all(p.tolist() == [1, 2, 3, 4] for p in found)


# --- whole encodes --------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_round_trips(tmp_path: Path, source: Path, network: str, parts: bool) -> None:
    """The program's float64 frames are those of the second decoder, and of HASH."""
    model = ModelConfig(
        params=40_000,
        network=network,
        hfscm=parts,
        msfrp=parts,
        msfrp_after=parts and network == NERV,
        hfscm_spec=HfscmSpec(norm=network == E_NERV),
        hfscm_stages=(0, -1) if parts else None,
    )
    output = tmp_path / "out.hfsv"
    report = nervcodec.encode(
        source, output, EncodeConfig(train=TrainConfig(epochs=3), model=model, keyint=3)
    )
    assert report.frames == 5
    assert nervcodec.probe(output).architecture == ("hfs-" if parts else "") + network
    assert nervcodec.verify(output, frames=True).frames_checked
    file = reference_decoder.parse(output.read_bytes())
    with nervcodec.open(output) as clip:
        for number in range(2):
            pairs = zip(
                clip.reference_frames(number), reference_decoder.render(file, number), strict=True
            )
            assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)
        assert np.abs(clip[4].astype(int) - list(clip)[4]).max() == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_learns(network: str) -> None:
    frames = moving_pattern(46, 30, 4)
    config = ModelConfig(network=network, hfscm=False, msfrp=False)
    model = design_model(config, 14_000, 46, 30, 4)
    reached = []
    for epochs in (2, 40):
        train = TrainConfig(epochs=epochs, optimizer=ADAM if network == NERV else SOAP)
        trained = Trainer(frames, model, train, torch.device("cpu")).train()
        assert trained.psnr is not None
        reached.append(trained.psnr)
    assert reached[1] > reached[0] + 2


def test_resuming_an_e_nerv_gives_the_same_file(tmp_path: Path, source: Path) -> None:
    model = ModelConfig(params=20_000, network=E_NERV, hfscm=False, msfrp=False)
    config = EncodeConfig(train=TrainConfig(epochs=4), model=model, checkpoint_seconds=1e-9)
    nervcodec.encode(source, tmp_path / "whole.hfsv", config)
    calls = iter(range(1000))
    nervcodec.encode(source, tmp_path / "cut.hfsv", config, stop=lambda: next(calls) > 14)
    resumed = replace(config, resume=True)
    nervcodec.encode(source, tmp_path / "cut.hfsv", resumed)
    assert (tmp_path / "cut.hfsv").read_bytes() == (tmp_path / "whole.hfsv").read_bytes()


def test_the_command_line_sets_every_switch(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.hfsv"
    switches = (
        *("--arch", "e-nerv", "--hfscm", "--hfscm-stages", "0,-1", "--msfrp", "--msfrp-after"),
        *("--attention", "dense", "--attention-kernel", 5, "--attention-norm"),
        *("--extra-convs", 1, "--extra-kernel", 1, "--phi", "1,2,2,2"),
    )
    assert run("encode", source, output, "--params", "30k", "--epochs", 1, "-q", *switches) == 0
    (segment,) = nervcodec.probe(output).segments
    model = segment.model
    assert model.architecture == Architecture.ENERV
    assert model.msfrp_after
    assert [stage.hfscm for stage in model.stages] == [True, True]
    assert replace(model.hfscm, reduction=5) == HfscmSpec(5, 5, model.hfscm.attention, 1, 1, True)
    assert model.hfscm.attention.name == "DENSE"


@pytest.mark.parametrize(
    "switches",
    [
        ("--attention-kernel", 4),
        ("--extra-kernel", 2),
        ("--phi", "1,2"),
        ("--phi", "a,b,c,d"),
        ("--hfscm-stages", "x"),
        ("--hfscm-stages", "9"),
        ("--arch", "other"),
    ],
)
def test_wrong_switches_are_refused(
    tmp_path: Path, source: Path, switches: tuple[object, ...]
) -> None:
    assert run("encode", source, tmp_path / "out.hfsv", "--params", "16k", *switches) == 2
    assert not (tmp_path / "out.hfsv").exists()


def test_a_flat_map_is_standardised_to_zero() -> None:
    """E-NeRV divides by the deviation of each channel, which may be nothing."""
    model = design_model(ModelConfig(network=E_NERV, hfscm=False, msfrp=False), 14_000, 46, 30, 4)
    assert isinstance(model, ModelSpec)
    network = FrameDecoder(model, 46, 30).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        frames = network(frame_times([0, 3], 4, model.time or TimeSpec()))
    assert torch.equal(frames, torch.full_like(frames, 0.5))
