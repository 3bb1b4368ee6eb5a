"""Drawn cover art: one small SVG an item, its motif and colours from the category, its forms from the latent style."""

from __future__ import annotations

import colorsys
import textwrap
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from asterism.data.market.category import Subcategory
from asterism.data.market.motifs import MOTIFS, Pen

WIDTH: Final = 480
HEIGHT: Final = 320
_LINE_CHARS: Final = 25
_MAX_LINES: Final = 3
_LINE_HEIGHT: Final = 35


def draw_cover(sub: Subcategory, title: str, style: NDArray[np.floating], seed: list[int]) -> str:
    """An SVG document of 480 x 320 and less than 3 kB; the same arguments give the same bytes."""
    turn, shade = sub.turn + float(style[0]) * 0.05, float(style[1]) * 0.12
    sky, ground, shape, light = (shift_colour(one, turn, shade) for one in sub.parent.palette)
    pen = Pen(np.random.default_rng(seed), sky, ground, shape, light, tuple(float(one) for one in style[:4]))
    art = "".join(MOTIFS[sub.parent.motif](pen))
    if pen.between(0, 1) < 0.5:
        art = f'<g transform="matrix(-1 0 0 1 {WIDTH} 0)">{art}</g>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{_safe(title)}</title>"
        '<defs><linearGradient id="s" x2="0" y2="1"><stop offset=".3" stop-color="#000" stop-opacity="0"/>'
        '<stop offset="1" stop-color="#000" stop-opacity=".82"/></linearGradient>'
        f'<linearGradient id="b" x2=".4" y2="1"><stop stop-color="{sky}"/>'
        f'<stop offset="1" stop-color="{mix(sky, ground, 0.55)}"/></linearGradient></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="url(#b)"/>{art}'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="url(#s)"/>{_lettering(title, sub.name)}</svg>'
    )


def shift_colour(colour: str, turn: float, shade: float) -> str:
    """Turn the hue by a share of the circle, and lighten (shade > 0) or darken it."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    lightness = min(max(lightness * (1 + shade), 0.0), 1.0)
    return _hex(colorsys.hls_to_rgb((hue + turn) % 1.0, lightness, saturation))


def mix(first: str, second: str, share: float) -> str:
    """The colour at `share` of the way from the first to the second."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(_rgb(first), _rgb(second), strict=True))
    return _hex((red, green, blue))


def _lettering(title: str, label: str) -> str:
    lines = _balanced(title)
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], lines[_MAX_LINES - 1][: _LINE_CHARS - 1] + "…"]
    top = HEIGHT - 26 - _LINE_HEIGHT * (len(lines) - 1)
    spans = "".join(
        f'<tspan x="26" y="{top + row * _LINE_HEIGHT}">{_safe(line)}</tspan>' for row, line in enumerate(lines)
    )
    return (
        '<g font-family="Inter,Helvetica Neue,Arial,sans-serif" fill="#fff">'
        f'<text x="27" y="{top - 40}" font-size="15" letter-spacing="3" opacity=".9">{_safe(label.upper())}</text>'
        f'<text font-size="30" font-weight="700">{spans}</text></g>'
    )


def _balanced(title: str) -> list[str]:
    """Lines of about equal length, as few as the width allows."""
    lines = textwrap.wrap(title, _LINE_CHARS, break_on_hyphens=False) or [""]
    narrow = [textwrap.wrap(title, chars, break_on_hyphens=False) for chars in range(_LINE_CHARS // 2, _LINE_CHARS)]
    return next((one for one in narrow if len(one) == len(lines)), lines)


def _safe(text: str) -> str:
    """Escaped for XML, without the control characters that XML forbids."""
    return escape("".join(one for one in text if one.isprintable()))


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * min(max(one, 0.0), 1.0)):02x}" for one in rgb)
