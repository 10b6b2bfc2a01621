# SPDX-License-Identifier: Apache-2.0
"""Charts of timed contenders as SVG: a bar to the median, a line over the quartiles, a mark at the least."""

from xml.sax.saxutils import escape

from bench.report import duration
from bench.timing import quartiles_of

WIDTH, LABELS, ROW, MARGIN = 780, 230, 30, 14
COLOURS = {"hum": "#2b7a5d", "floor": "#8a8f98", "QEMU": "#b5542c", "kvmtool": "#6a58a8"}


def colour_of(name):
    return next((colour for start, colour in COLOURS.items() if name.startswith(start)), "#5b6b7b")


def bars(title, contenders):
    """The chart's text; contenders that failed are left out."""
    shown = [c for c in contenders if c.wall and not c.failure]
    longest = max(quartiles_of(c.wall)[2] for c in shown)
    scale = (WIDTH - LABELS - 90) / longest
    height = MARGIN * 2 + 28 + ROW * len(shown)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
             f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
             f'<text x="{MARGIN}" y="{MARGIN + 12}" font-weight="bold">{escape(title)}</text>']
    for row, contender in enumerate(shown):
        top = MARGIN + 28 + row * ROW
        middle = top + ROW / 2 - 4
        first, _, third = quartiles_of(contender.wall)
        end = LABELS + contender.median() * scale
        lines += [
            f'<text x="{LABELS - 8}" y="{middle + 5:.1f}" text-anchor="end">{escape(contender.name)}</text>',
            f'<rect x="{LABELS}" y="{top:.1f}" width="{end - LABELS:.1f}" height="{ROW - 9}" '
            f'fill="{colour_of(contender.name)}"/>',
            f'<line x1="{LABELS + first * scale:.1f}" x2="{LABELS + third * scale:.1f}" y1="{middle:.1f}" '
            f'y2="{middle:.1f}" stroke="black"/>',
            f'<circle cx="{LABELS + min(contender.wall) * scale:.1f}" cy="{middle:.1f}" r="3" fill="white" '
            'stroke="black"/>',
            f'<text x="{max(end, LABELS + third * scale) + 8:.1f}" y="{middle + 5:.1f}">'
            f'{duration(contender.median())}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
