"""The evaluation as one HTML file that can be sent to anyone: no script, and nothing is fetched."""

from deepmemory.report.page import DEFAULT_TITLE, render_report
from deepmemory.report.save import save_report

__all__ = ["DEFAULT_TITLE", "render_report", "save_report"]
