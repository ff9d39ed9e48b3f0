"""The stages of a pixel fit: which follows which, at which values, and which parameters move. Each begins where the one
before converged.

"spots": the observed spots, each with its own scale. "frame": every reflection that the amplitudes make bright enough,
one scale an experiment. "again": back to a scale a spot, where one for all leaves more than noise. "robust": like the
stage before, with an error of the spots' shapes in the variance and spots that do not fit weighted down; for data
that are not their model.

All decisions are here, and they are values: no function moves a parameter. What is measured comes from a
:class:`refine.fit.state.Quality`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from refine.fit.problem import Problem
from refine.fit.shoebox_choice import auto_oversample
from refine.fit.state import Decision, Quality, Stage, State
from refine.parameters.kinds import SCALE
from refine.parameters.parameter_set import ParameterSet
from refine.records.journal import JournalEntry

_MISFIT = 1.5  # mean z² under the spots beyond which the shapes, not the counts, limit the fit
_TRUSTED_SCATTER = 0.25  # median relative scatter of the spots' scales up to which amplitudes are worth a try
_CLEARLY_BETTER = 4.0  # of the deviance: odds of e²
_NEAR = 1.0  # rms (pixels) of the positions from which on pixels can be asked how they were sampled
_HOPELESS = 8.0  # mean z² beyond which no sampling and no amplitudes will mend it
_BROADENING = 0.3  # of ln(width), by which spots differ where their shape is not the model's
_WORTH = 0.9  # the pixels' geometry stays if its rms of positions is below this fraction of the positions fit's
_LOOK_AFTER, _PLAINLY = 4, 3.0  # iterations, and mean z² under the spots, after which their shapes are taken as wrong


@dataclass(frozen=True, eq=False)
class Rules:
    """The decisions about one fit. Nothing of ``problem`` is changed; its parameters give names, kinds and bounds."""

    problem: Problem

    def begin(self) -> Decision:
        """The stage that every fit begins with."""
        error = self.problem.settings.loss.model_error or 0.0
        shared = self.problem.scene.has_amplitudes and self._may_share_scale(hopeless=False)
        stage = Stage("spots", model_error=error, loose=shared)
        values = self.problem.parameters.values.detach().clone()
        return self._decision(stage, values)

    def first_sampling(self, state: State, quality: Quality) -> Decision | None:
        """The first stage again with the sampling that the pixels ask for, where positions are near enough to ask."""
        if state.stage.model_error or not quality.rms(state.values) < _NEAR:
            return None
        stage, reason = self._asked(state.stage, quality)
        return self._decision(stage, state.values, reason)

    def shapes_are_wrong(self, state: State, quality: Quality) -> bool:
        """Whether counts alone need not be fitted to the end, because the spots plainly are not what is rendered."""
        kind = self.problem.settings.loss.kind
        if state.stage.name != "spots" or state.iterations != _LOOK_AFTER or kind not in ("auto", "robust"):
            return False
        return quality.z2 > _PLAINLY

    def next_stage(self, state: State, quality: Quality) -> Decision:
        """What follows the converged stage of ``state``."""
        stage, said = state.stage, list[JournalEntry]()
        if stage.name == "robust":
            if stage.weighed_anew:
                return self._end(state, quality)
            return self._decision(replace(stage, weighed_anew=True), state.values)
        z2 = quality.z2
        hopeless = z2 >= _HOPELESS
        if stage.name == "spots" and stage.model_error == 0 and not stage.sampled and not hopeless:
            asked, reason = self._asked(stage, quality)
            if asked.oversample != stage.oversample:
                return self._decision(asked, state.values, reason)
        if stage.name == "spots" and self.problem.scene.has_amplitudes and self._may_share_scale(hopeless=hopeless):
            shared = self._with_amplitudes(state, quality)
            if shared.stage is not None:
                return shared
            said += shared.reason
        if stage.loose:
            return self._decision(replace(stage, loose=False), state.values, said)
        if stage.name == "frame" and self.problem.settings.parameters.scale == "auto" and z2 >= _MISFIT:
            return self._again(state, z2)
        kind = self.problem.settings.loss.kind
        if kind in ("poisson", "gaussian") or (kind == "auto" and z2 < _MISFIT):
            return self._end(state, quality, said)
        return self._robust(state, quality, said)

    def free(self, stage: Stage, left_out: Collection[int] = ()) -> tuple[int, ...]:
        """The parameters that ``stage`` moves: scales where they are not the spots' own; no shapes where spots have
        others; none of crystals that are ``left_out``."""
        rows = [(i, p) for i, p in enumerate(self.problem.parameters.parameters_) if p.block not in left_out]
        wanted = [(i, p.kind) for i, p in rows if p.free]
        if stage.errors is not None:
            wanted = [(i, kind) for i, kind in wanted if not kind.told_by_shapes_alone]
        if stage.free_scales:
            wanted = [(i, kind) for i, kind in wanted if not kind.told_by_brightness_alone]
        return tuple(i for i, _ in wanted)

    def _decision(self, stage: Stage, values: Tensor, reason: Collection[JournalEntry] = ()) -> Decision:
        return Decision(stage, values, self.free(stage), tuple(reason))

    def _may_share_scale(self, *, hopeless: bool) -> bool:
        """Whether to try one scale an experiment: where asked for, or where the shapes are not ``hopeless``ly wrong."""
        wish = self.problem.settings.parameters.scale
        return wish == "frame" or (wish == "auto" and not hopeless)

    def _asked(self, stage: Stage, quality: Quality) -> tuple[Stage, tuple[JournalEntry, ...]]:
        """``stage`` with the sampling that explains the pixels best, and the reason; as it is where none explains them,
        yet."""
        if self.problem.settings.render.oversample is not None:
            return replace(stage, sampled=True), ()
        losses = quality.losses_by_sampling
        if min(losses.values()) == float("inf"):
            return stage, ()
        best, reason = best_sampling(losses, stage.oversample or auto_oversample(self.problem))
        return replace(stage, sampled=True, oversample=best or stage.oversample), reason

    def _with_amplitudes(self, state: State, quality: Quality) -> Decision:
        """One scale an experiment, where the amplitudes explain the spots or the user asks for it; else no stage."""
        scatter, medians = quality.scales
        if medians and (self.problem.settings.parameters.scale == "frame" or scatter <= _TRUSTED_SCATTER):
            said = f"one scale a crystal: the spots' own scales scatter by {100 * scatter:.1f} % about the amplitudes'"
            reason = JournalEntry("one_scale", said, "choice", {"scatter": scatter})
            stage = replace(state.stage, name="frame", free_scales=False, predicted=True, loose=False)
            return self._decision(stage, with_scales(self.problem.parameters, state.values, medians), [reason])
        said = f"every spot keeps a scale of its own: they scatter by {100 * scatter:.0f} % about the amplitudes'"
        reason = JournalEntry("a_scale_a_spot", said, "choice", {"scatter": scatter})
        return Decision(None, state.values, state.free, (reason,))

    def _again(self, state: State, z2: float) -> Decision:
        """A scale a spot again, where one for all is not enough."""
        said = (
            f"every spot keeps a scale of its own: one for all leaves a mean squared residual of {z2:.2g} of the noise"
        )
        stage = replace(state.stage, name="again", free_scales=True, predicted=False)
        reason = JournalEntry("one_scale_given_up", said, "choice", {"mean_z2": z2})
        return self._decision(stage, state.values, [reason])

    def _robust(self, state: State, quality: Quality, said: Collection[JournalEntry]) -> Decision:
        """The stage for spots that are not their model. It begins with the geometry of their positions, if fitted."""
        values = state.values if self.problem.by_positions is None else self.problem.by_positions
        errors = (*quality.spread(values), _BROADENING)
        begun = self._decision(replace(state.stage, name="robust", errors=errors), values)
        error = self.problem.settings.loss.model_error
        if error is None:
            error = quality.shape_error(begun)
        told = (
            f"robust: under the spots the mean squared residual is {quality.z2:.2g} of the noise; every spot may lie "
            f"{errors[0]:.2f} px and {errors[1]:.2f} frames from its place and have a shape wrong by "
            f"{100 * error:.0f} %"
        )
        assert begun.stage is not None
        numbers = {"mean_z2": quality.z2, "shift_px": errors[0], "delay_frames": errors[1], "model_error": error}
        reason = (*said, JournalEntry("robust", told, "choice", numbers))
        return replace(begun, stage=replace(begun.stage, model_error=error), reason=reason)

    def _end(self, state: State, quality: Quality, said: Collection[JournalEntry] = ()) -> Decision:
        """The end of the fit. Where spot shapes limit it, the geometry of the fit of positions stays if it predicts the
        spots better."""
        ended, moved = Decision(None, state.values, state.free, tuple(said)), [*self.problem.moved_by_positions]
        if self.problem.by_positions is None or not moved or not state.stage.model_error > 0:
            return ended
        values = state.values.clone()
        values[moved] = self.problem.by_positions[moved]
        pixels, positions = quality.rms(state.values), quality.rms(values)
        if pixels < _WORTH * positions:
            return ended
        told = (
            f"the geometry is that of the spots' positions, which predicts them to {positions:.2f} px; the pixels, "
            f"whose shapes the model does not explain, to {pixels:.2f} px"
        )
        reason = JournalEntry("geometry_of_positions", told, "choice", {"positions_px": positions, "pixels_px": pixels})
        return Decision(None, values, tuple(sorted(moved)), (*said, reason), by_positions=True)


def best_sampling(losses: Mapping[int, float], current: int) -> tuple[int | None, tuple[JournalEntry, ...]]:
    """The number of sub-pixels of the least of ``losses``, and the reason; None where ``current`` is about as good."""
    best = min(losses, key=losses.__getitem__)
    if not losses[current] - losses[best] > _CLEARLY_BETTER:
        return None, ()
    said = f"render.oversample = {best}: it explains the pixels best, of 1, 2 and 3"
    numbers = {"oversample": best, "losses": list(losses.values())}
    return best, (JournalEntry("sampling_from_pixels", said, "choice", numbers),)


def with_scales(parameters: ParameterSet, values: Tensor, medians: Mapping[int, float]) -> Tensor:
    """``values`` [T] with each experiment's scale at the median of its spots', the mean of these where experiments
    share one."""
    found: dict[int, list[float]] = {}
    for expt, median in medians.items():
        found.setdefault(parameters.index_of(SCALE, expt), []).append(median)
    begun = values.clone()
    for index, of_experiments in found.items():
        begun[index] = sum(of_experiments) / len(of_experiments)
    return parameters.clamp(begun)
