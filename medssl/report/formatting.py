"""How the pages say numbers and lists."""

from collections.abc import Mapping, Sequence


def score(value: float) -> str:
    """Three digits."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """Three digits and a sign, which zero has not."""
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    return text[1:] if float(text[1:]) == 0 else text


def span(interval: Mapping[str, float]) -> str:
    """An interval by its "low" and "high"."""
    return f"{interval['low']:.3f} to {interval['high']:.3f}"


def p_value(p: float | None) -> str:
    """Empty where there is none."""
    return "" if p is None else "under 0.001" if p < 0.001 else f"{p:.3f}"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
