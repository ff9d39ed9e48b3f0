"""Sources of the beam: products of divergence and spectrum, explicit ones, weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbtorch.config import BeamConfig, SourceConfig
from nbtorch.errors import ConfigError, GeometryError
from nbtorch.models import Beam, Experiment, StructureFactors
from tests.helpers.scenes import Features, beam_config, crystal_config, detector_config

BEAM = BeamConfig(
    1.2,
    direction=(2.0, 0.0, 0.0),
    spectrum=((-0.01, 1.0), (0.02, 3.0)),
    divergence=((0.0, 0.0, 1.0), (3.0, 0.0, 2.0), (0.0, -4.0, 2.0)),
)


def test_sources_are_every_direction_at_every_wavelength_with_the_product_of_weights() -> None:
    incident, wavelength, weight = Beam(BEAM).sources()
    assert incident.shape == (6, 3)
    torch.testing.assert_close(wavelength, torch.tensor([1.19, 1.22] * 3, dtype=torch.float64), rtol=1e-15, atol=0)
    raw = torch.tensor([1.0, 3.0, 2.0, 6.0, 2.0, 6.0]).double()
    torch.testing.assert_close(weight, raw / raw.mean(), rtol=1e-15, atol=0)
    torch.testing.assert_close(incident.norm(dim=-1), torch.ones(6).double(), rtol=0, atol=2e-16)
    angles = torch.acos(incident @ incident[0]) * 1e3
    torch.testing.assert_close(angles[2:], torch.tensor([3.0, 3.0, 4.0, 4.0]).double(), rtol=1e-6, atol=0)


def test_explicit_sources_travel_against_their_direction() -> None:
    given = (SourceConfig((-2.0, 0.0, 0.0), 1.0), SourceConfig((-1.0, 0.1, 0.0), 1.1, 3.0))
    with torch.no_grad():
        incident, wavelength, weight = Beam(BeamConfig(1.0, sources=given)).sources()
    assert incident[0].tolist() == [1.0, 0.0, 0.0]
    assert float(incident[1, 1]) < 0
    assert wavelength.tolist() == [1.0, 1.1]
    assert weight.tolist() == [0.5, 1.5]


def test_explicit_sources_have_their_own_parameters() -> None:
    given = (SourceConfig((-1.0, 0.0, 0.0), 1.0),)
    names = {name for name, _ in Beam(BeamConfig(1.0, sources=given)).named_parameters()}
    assert {"source_direction", "source_wavelength"} <= names
    assert not {"wavelength", "spectrum", "divergence"} & names


@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), (0.0, 0.0, -3.0)])
def test_polarization_along_the_beam_is_refused(direction: tuple[float, float, float]) -> None:
    """It would divide by the length of axis × beam, and every pixel would be NaN."""
    with pytest.raises(GeometryError, match="along the beam"):
        BeamConfig(1.0, direction=direction)
    source = SourceConfig((-direction[0], -direction[1], -direction[2]), 1.0)
    with pytest.raises(GeometryError, match="along the beam"):
        BeamConfig(1.0, sources=(source,))


def test_explicit_sources_with_a_spectrum_or_divergence_are_refused() -> None:
    given = (SourceConfig((-1.0, 0.0, 0.0), 1.0),)
    with pytest.raises(ConfigError, match="one or the other"):
        replace(BEAM, sources=given)


def test_an_experiment_without_structure_factors_has_f_one_everywhere() -> None:
    features = Features()
    scene = Experiment.from_config(crystal_config(features), beam_config(features), detector_config(features))
    assert scene.structure_factors.default_F == 1.0
    assert scene.structure_factors.table() is None


def test_mates_share_one_amplitude() -> None:
    model = StructureFactors(
        torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 2, 0]]).numpy(),
        torch.tensor([5.0, 5.0, 7.0]).numpy(),
        group=torch.tensor([0, 0, 1]).numpy(),
        default_F=2.0,
    )
    assert model.amplitudes.tolist() == [5.0, 7.0]
    table = model.table()
    assert table is not None
    assert table.first == (-1, 0, 0)
    assert table.values[:, 0, 0].tolist() == [5.0, 2.0, 5.0]
    assert table.values[1, 2, 0].item() == 7.0
