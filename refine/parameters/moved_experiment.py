"""An experiment with the parameters' current values in it."""

from __future__ import annotations

from copy import deepcopy

import torch

from nbtorch.models import Experiment
from refine.parameters.parameter_set import ParameterSet
from refine.scene.scene import Shot


def moved_experiment(shot: Shot, parameters: ParameterSet) -> Experiment:
    """A copy of the shot's experiment with the parameters' current values in it."""
    experiment = deepcopy(shot.experiment)
    state = dict(experiment.named_parameters())
    with torch.no_grad():
        for name, value in parameters.changes(shot.index).items():
            if name != "scale":
                state[name].copy_(value)
    return experiment
