"""The report of one fine-tuning run: a page that opens offline, and its figures."""

from medssl.report.figures import figure_files
from medssl.report.page import write_report
from medssl.report.visuals import CurveInputs, ImageInputs, Pictures, draw_curves, draw_pictures

__all__ = ["CurveInputs", "ImageInputs", "Pictures", "draw_curves", "draw_pictures", "figure_files", "write_report"]
