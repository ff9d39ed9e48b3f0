"""An experiment with the parameters' current values in it."""

from __future__ import annotations

from copy import deepcopy

import torch

from nbtorch.models import Experiment
from refine.parameters.parameter_set import ParameterSet
from refine.scene.scene import FitExperiment


def moved_experiment(expt: FitExperiment, parameters: ParameterSet) -> Experiment:
    """A copy of the experiment's experiment with the parameters' current values in it."""
    experiment = deepcopy(expt.model)
    state = dict(experiment.named_parameters())
    with torch.no_grad():
        for name, value in parameters.changes(expt.index).items():
            if name != "scale":
                state[name].copy_(value)
    return experiment
