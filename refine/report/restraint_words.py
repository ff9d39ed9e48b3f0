"""Restraints in words."""

from __future__ import annotations

from refine.records.outcome import ParameterRow


def described(row: ParameterRow) -> str:
    """The restraint of ``row`` in words; nothing where there is none."""
    if row.restraint_sigma is None or row.restraint_target is None:
        return ""
    return f"restrained to {row.restraint_target:.6g} ± {row.restraint_sigma:.2g}"
