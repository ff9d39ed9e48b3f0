"""The closed form where there is light: the samples a reflection reaches are found first, and only they are computed.

The twin's formulas on a list of (sample, source, piece, reflection) in the place of all of them. What is left out has
less than ``culling`` of its reflection's peak.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nbtorch.functional import structure_factor
from nbtorch.functional.profile import Covariances, Place
from nbtorch.kernels import profile_reference, reference
from nbtorch.kernels.dispatch import pixel_rays
from nbtorch.kernels.profile_reference import ProfileSettings, ProfileTensors
from nbtorch.kernels.reference import BeamFrame, PanelFrames, RaySettings, SampleGrid, Samples


class Lit(NamedTuple):
    """M terms that have light: positions [M] in samples, sources and pieces, and reflections [M, 3] as floats."""

    sample: Tensor
    source: Tensor
    piece: Tensor
    reflection: Tensor


@torch.no_grad()
def lit_terms(diffracted: Tensor, incident: Tensor, tensors: ProfileTensors, settings: ProfileSettings) -> Lit:
    """The terms that ``settings.extent`` and ``settings.radial`` do not exclude, of rays ``diffracted`` [P, 3]."""
    found = [
        _lit(diffracted, s, k, incident[s], tensors, settings)
        for s in range(len(incident))
        for k in range(len(tensors.basis))
    ]
    return Lit(*(torch.cat(column) for column in zip(*found, strict=True)))


def _lit(
    diffracted: Tensor, source: int, piece: int, incident: Tensor, tensors: ProfileTensors, settings: ProfileSettings
) -> Lit:
    """:class:`Lit` of one source and piece."""
    scattering = (diffracted - incident) / tensors.wavelength[source]
    length = scattering.norm(dim=-1)
    basis = tensors.basis[piece]
    reciprocal = torch.linalg.inv(basis)  # columns a*, b*, c*
    limit = scattering.new_tensor(settings.extent)
    hkl = scattering @ basis.T
    whole = structure_factor.nearest_index(hkl)
    within = settings.dmin * length <= 1
    parts = []
    for step in profile_reference.neighbours(settings.reach, hkl):
        offset = hkl - whole - step
        near = within & (offset.abs() <= limit).all(-1)
        chosen = near.nonzero()[:, 0]
        along = (offset[chosen] @ reciprocal.T * scattering[chosen]).sum(-1)
        chosen = chosen[along.abs() <= settings.radial * length[chosen]]
        parts.append((chosen, whole[chosen] + step))
    sample = torch.cat([chosen for chosen, _ in parts])
    same = torch.zeros_like(sample)
    return Lit(sample, same + source, same + piece, torch.cat([reflection for _, reflection in parts]))


def profile_sum(
    panels: PanelFrames,
    beam: BeamFrame,
    samples: SampleGrid,
    source_weight: Tensor,
    tensors: ProfileTensors,
    rays: RaySettings,
    settings: ProfileSettings,
) -> Tensor:
    """As :func:`nbtorch.kernels.profile_sum`."""
    with torch.no_grad():
        diffracted = pixel_rays(panels, beam, samples, rays, settings.backend)[0]
        lit = lit_terms(diffracted, beam.incident, tensors, settings)
        listed = Samples(*(x[lit.sample] for x in samples.listed()))
    if samples.layers > 1 or samples.layer_step.requires_grad:  # the depth of a layer moves with its thickness
        step = samples.layer_step[listed.panel]
        per_layer = samples.oversample**2
        index = (lit.sample // per_layer) % samples.layers
        listed = listed._replace(depth=step * index, layer=step)
    terms = reference.ray_terms(panels, beam, listed, rays)
    weight = terms.capture * terms.solid_angle * terms.polarization.gather(1, lit.source[:, None])[:, 0]
    place = Place(
        terms.position,
        beam.incident[lit.source],
        tensors.wavelength[lit.source],
        tensors.basis[lit.piece],
        tensors.spindle,
    )
    spreads = Covariances(
        tensors.mosaic[lit.piece],
        tensors.bandwidth[lit.source],
        tensors.divergence[lit.source],
        profile_reference.place_covariance(panels, listed.panel, tensors.pixel),
        tensors.cell,
    )
    average = profile_reference.averages(place, spreads, lit.reflection, tensors.intrinsic, settings)[2]
    amplitude = structure_factor.structure_factor(lit.reflection, tensors.table, settings.default_F, "nearest")
    value = tensors.scale * amplitude**2 * average * weight * source_weight[lit.source]
    per_pixel = samples.layers * samples.oversample**2
    return value.new_zeros(len(samples.panel)).index_add(0, lit.sample // per_pixel, value)
