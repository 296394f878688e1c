"""Several fine-tuning runs on one page: which encoder is better than the others, if the intervals show a difference."""

from medssl.compare.page import write_comparison
from medssl.compare.runs import Run

__all__ = ["Run", "write_comparison"]
