"""Colours that the benchmarks' pictures share, and the style sheet's rules for them."""

__all__ = ["COLOURS", "STYLE"]

COLOURS = (
    "#0063b2",
    "#5aa9e6",
    "#b8480b",
    "#e08b4f",
    "#2f7d32",
    "#7cb342",
    "#6a3d9a",
    "#a67fc7",
    "#555a63",
    "#a0851a",
)

STYLE = (
    "svg{background:#fff}text{font:12.5px system-ui,sans-serif;fill:#5b616b}text.row{fill:#1b1d21;font-size:13px}"
    ".grid{stroke:#e2e3e0}.axis{stroke:#7a7f87}polyline{fill:none;stroke-width:2.2;stroke-linejoin:round}"
    + "".join(f".c{i}{{fill:{colour}}}polyline.c{i}{{fill:none;stroke:{colour}}}" for i, colour in enumerate(COLOURS))
)
