"""Numbers as people read them: a value with as many digits as its sigma deserves."""

from __future__ import annotations

import math

from refine.records.outcome import Pair

THIN = "\u2009"
_WITHOUT_SIGMA = 6  # significant digits


def decimals(sigma: float) -> int:
    """Decimals that show two significant digits of ``sigma``."""
    return min(9, max(0, 1 - math.floor(math.log10(sigma))))


def with_sigma(value: float, sigma: float | None) -> str:
    """0.8123 ± 0.0021; without a sigma the value alone."""
    return f"{fixed(value, sigma)} ± {sigma:.{decimals(sigma)}f}" if usable(sigma) and sigma else fixed(value, None)


def fixed(value: float, sigma: float | None) -> str:
    """``value`` to the decimals of its sigma, or to six significant digits."""
    if not math.isfinite(value):
        return "—"
    if usable(sigma) and sigma:
        return minus(f"{value:.{decimals(sigma)}f}")
    return minus(f"{value:.{_WITHOUT_SIGMA}g}")


def usable(sigma: float | None) -> bool:
    """Whether there is a sigma to show."""
    return sigma is not None and math.isfinite(sigma) and sigma > 0


def signed(value: float | None, digits: int = 1) -> str:
    """+3.2; an em dash for None."""
    if value is None or not math.isfinite(value):
        return "—"
    return minus(f"{value:+.{digits if abs(value) < 100 else 0}f}")


def minus(text: str) -> str:
    """A hyphen before a number becomes a minus sign."""
    return text.replace("-", "\u2212")


def pair(values: Pair | None) -> str:
    """0.15 / 0.16: fast and slow."""
    return "—" if values is None else f"{values[0]:.2f}{THIN}/{THIN}{values[1]:.2f}"


def combined(values: Pair | None) -> float | None:
    """The two-dimensional rms of an rms along fast and slow."""
    return None if values is None else math.hypot(*values)


def seconds(value: float) -> str:
    """12.3 s, 4 min 5 s."""
    return f"{value:.1f}{THIN}s" if value < 120 else f"{int(value) // 60}{THIN}min {int(value) % 60}{THIN}s"


def size(count: int | None) -> str:
    """A number of bytes."""
    if count is None:
        return "—"
    return f"{count / 1e6:.1f}{THIN}MB" if count >= 1e5 else f"{count / 1e3:.1f}{THIN}kB"
