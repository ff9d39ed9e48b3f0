"""The fit, end to end: prepare a problem, iterate a module on it, conclude."""

from refine.conclude import outcome
from refine.data import ShoeboxData
from refine.module import FitModule
from refine.prepare import prepare
from refine.problem import Problem

__all__ = ["FitModule", "Problem", "ShoeboxData", "outcome", "prepare"]
