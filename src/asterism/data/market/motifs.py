"""The motifs of covers: each turns a pen (colours, style, randomness) into SVG shapes on 480 x 320."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import cos, pi, sin, tau
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True)
class Pen:
    """Colours and chance of one cover; `style` holds numbers around zero."""

    rng: np.random.Generator
    sky: str
    ground: str
    shape: str
    light: str
    style: tuple[float, ...]

    def between(self, low: float, high: float) -> float:
        """A uniform number."""
        return round(low + (high - low) * float(self.rng.random()), 1)

    def lean(self, dimension: int, low: float, high: float) -> float:
        """A number that the item's style decides: equal styles give equal numbers."""
        share = 0.5 + 0.5 * max(-1.0, min(1.0, 1.6 * self.style[dimension % len(self.style)]))
        return round(low + (high - low) * share, 1)


def _faint(opacity: float) -> str:
    return "" if opacity >= 1 else f' opacity="{opacity:g}"'


def circle(x: float, y: float, radius: float, fill: str, opacity: float = 1.0) -> str:
    """A filled disc."""
    return f'<circle cx="{x:.4g}" cy="{y:.4g}" r="{radius:.4g}" fill="{fill}"{_faint(opacity)}/>'


def ring(x: float, y: float, radius: float, stroke: str, width: float, opacity: float = 1.0) -> str:
    """A circle's line."""
    return (
        f'<circle cx="{x:.4g}" cy="{y:.4g}" r="{radius:.4g}" fill="none" stroke="{stroke}" '
        f'stroke-width="{width:.4g}"{_faint(opacity)}/>'
    )


def box(x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0, round_by: float = 0) -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{x:.4g}" y="{y:.4g}" width="{width:.4g}" height="{height:.4g}" rx="{round_by:g}" '
        f'fill="{fill}"{_faint(opacity)}/>'
    )


def area(points: list[tuple[float, float]], fill: str, opacity: float = 1.0) -> str:
    """A filled polygon."""
    corners = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    return f'<polygon points="{corners}" fill="{fill}"{_faint(opacity)}/>'


def line(path: str, stroke: str, width: float, opacity: float = 1.0) -> str:
    """A stroked path."""
    return f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="{width:.4g}"{_faint(opacity)}/>'


def mountains(pen: Pen) -> Iterator[str]:
    """A sun behind ridges."""
    yield circle(pen.lean(2, 90, 390), pen.lean(3, 60, 120), pen.between(34, 52), pen.light, 0.95)
    for layer, fill in enumerate((pen.shape, pen.shape, pen.ground)):
        base, height = 190 + 45 * layer, pen.lean(0, 60, 120) - 18 * layer
        ridge = [(x, base - height * pen.between(0.1, 1.0)) for x in range(-30, 520, 60 - 8 * layer)]
        yield area([(-40, 330), *ridge, (520, 330)], fill, 0.55 + 0.22 * layer)


def plates(pen: Pen) -> Iterator[str]:
    """A table seen from above."""
    x, y = pen.lean(2, 150, 330), pen.lean(3, 110, 150)
    radius = pen.between(88, 112)
    yield circle(x + 8, y + 10, radius + 4, "#000", 0.12)
    yield circle(x, y, radius, pen.light)
    yield ring(x, y, radius * 0.74, pen.sky, 3)
    yield circle(x, y, radius * pen.lean(0, 0.35, 0.62), pen.shape)
    yield circle(x - radius * 0.12, y - radius * 0.12, radius * 0.24, pen.light, 0.25)
    for _ in range(5):
        angle, far = pen.between(0, tau), radius * pen.between(1.25, 1.9)
        yield circle(x + far * cos(angle), y + far * sin(angle) * 0.8, pen.between(9, 30), pen.ground, 0.8)


def vinyl(pen: Pen) -> Iterator[str]:
    """A record and a spectrum."""
    x, y, radius = pen.lean(2, 130, 350), pen.lean(3, 110, 150), pen.between(96, 120)
    yield circle(x, y, radius, "#08090d")
    for share in (0.9, 0.78, 0.66, 0.54):
        yield ring(x, y, radius * share, "#fff", 1, 0.13)
    yield circle(x, y, radius * pen.lean(0, 0.28, 0.44), pen.shape)
    yield circle(x, y, 6, pen.light)
    for bar in range(16):
        height = 20 + 70 * abs(sin(bar * pen.lean(1, 0.4, 0.9) + pen.style[0])) * pen.between(0.6, 1)
        yield box(14 + bar * 29, 262 - height, 13, height, pen.light, 0.32, 6)


def tiles(pen: Pen) -> Iterator[str]:
    """Things laid out on a desk grid."""
    colours = (pen.shape, pen.light, pen.ground, "#ffffff")
    size = round(pen.lean(0, 68, 92))
    for row in range(3):
        for column in range(480 // size + 1):
            x, y, fill = column * size + 6, row * size + 6, colours[int(pen.rng.integers(4))]
            if pen.between(0, 1) < 0.3:
                yield circle(x + size / 2 - 5, y + size / 2 - 5, size / 2 - 8, fill, 0.9)
            elif pen.between(0, 1) < 0.85:
                yield box(x, y, size - 10, size - 10, fill, 0.85, pen.lean(1, 2, 22))


def gears(pen: Pen) -> Iterator[str]:
    """Wheels of a machine."""
    for x, y, radius in ((pen.lean(2, 120, 200), 120, 92), (pen.lean(3, 300, 360), 90, 60), (290, 205, 50)):
        teeth = int(radius / 6)
        rim: list[tuple[float, float]] = []
        for tooth in range(2 * teeth):
            far = radius if tooth % 2 else radius * 0.84
            for step in (0.0, 0.8):
                angle = (tooth + step) * pi / teeth + pen.style[0]
                rim.append((x + far * cos(angle), y + far * sin(angle)))
        fill = pen.shape if radius > 55 else pen.ground
        yield area(rim, fill, 0.95)
        yield circle(x, y, radius * 0.52, pen.light, 0.9)
        yield circle(x, y, radius * 0.2, pen.ground)


def horizon(pen: Pen) -> Iterator[str]:
    """A low sun over the sea, and a road towards it."""
    x, level = pen.lean(2, 140, 340), round(pen.lean(3, 140, 185))
    radius = pen.between(46, 74)
    yield circle(x, level - radius * 0.3, radius * 1.5, pen.light, 0.35)
    yield circle(x, level - radius * 0.3, radius, pen.light)
    yield box(0, level, 480, 330 - level, pen.shape)
    for row in range(5):
        width = radius * (2.0 - 0.25 * row) * pen.between(0.6, 1)
        yield box(x - width / 2, level + 8 + row * 14, width, 4, pen.light, 0.6, 2)
    yield area([(x - 6, level), (x + 6, level), (x + pen.lean(0, -40, 240), 330), (x - 180, 330)], pen.ground, 0.75)
    hill = pen.between(20, 60)
    yield line(f"M0 {level} q60 -{hill:g} 120 0 t120 0", pen.ground, 6, 0.6)


def orbits(pen: Pen) -> Iterator[str]:
    """Planets and stars."""
    x, y = pen.lean(2, 150, 330), pen.lean(3, 105, 150)
    for _ in range(14):
        yield circle(pen.between(0, 480), pen.between(0, 260), pen.between(0.8, 2.2), pen.light, 0.8)
    tilt = pen.lean(0, -28, 28)
    for step in range(1, 4):
        far = 52 + step * pen.lean(1, 30, 46)
        angle = pen.between(0, tau)
        px, py = x + far * cos(angle), y + far * 0.42 * sin(angle)
        yield (
            f'<g transform="rotate({tilt:g} {x:.4g} {y:.4g})"><ellipse cx="{x:.4g}" cy="{y:.4g}" rx="{far:g}" '
            f'ry="{far * 0.42:.0f}" fill="none" stroke="{pen.light}" opacity=".45"/>'
            f"{circle(round(px), round(py), pen.between(5, 13), pen.light)}</g>"
        )
    yield circle(x, y, pen.between(34, 50), pen.shape)
    yield circle(x - 12, y - 12, 16, "#fff", 0.25)


def bauhaus(pen: Pen) -> Iterator[str]:
    """Large plain forms that overlap."""
    colours = (pen.shape, pen.ground, pen.light)
    yield circle(pen.lean(2, 90, 390), pen.lean(3, 80, 160), pen.between(70, 105), colours[0], 0.92)
    x, y = pen.between(120, 330), pen.between(30, 90)
    yield box(x, y, pen.between(90, 150), pen.between(90, 150), colours[2], 0.9)
    corner = pen.between(20, 380)
    yield area([(corner, 260), (corner + 150, 260), (corner + pen.lean(0, 0, 150), 60)], colours[1], 0.9)
    for row in range(4):
        yield box(pen.lean(1, 20, 340), 30 + row * 14, 110, 5, colours[1], 0.85)


def waves(pen: Pen) -> Iterator[str]:
    """Glowing waves."""
    yield circle(pen.lean(2, 110, 370), 105, pen.between(48, 70), pen.shape, 0.9)
    lift, length = pen.lean(0, 18, 62), round(pen.lean(1, 50, 110))
    for row in range(9):
        y = 84 + row * 19
        colour = pen.light if row % 2 else pen.shape
        swing = round(lift * sin(row * 0.7 + 3 * pen.style[3]) + pen.between(-6, 6))
        yield line(
            f"M-20 {y} q{length} {-swing} {2 * length} 0 t{2 * length} 0 t{2 * length} 0 t480 0", colour, 3, 0.85
        )


def strings(pen: Pen) -> Iterator[str]:
    """The mouth of an instrument."""
    x, y, radius = pen.lean(2, 150, 330), pen.lean(3, 110, 150), pen.between(72, 96)
    yield circle(x, y, radius * 1.9, pen.shape, 0.55)
    yield circle(x, y, radius * 1.35, pen.light, 0.5)
    yield circle(x, y, radius, pen.ground)
    yield ring(x, y, radius * 1.12, pen.ground, 3, 0.7)
    slope = pen.lean(0, -70, 70)
    for string in range(6):
        level = y - 50 + string * 20
        yield line(f"M0 {level - slope:g} L480 {level + slope:g}", pen.light, 1.2 + 0.4 * string, 0.95)


def lens(pen: Pen) -> Iterator[str]:
    """An aperture."""
    x, y, radius = pen.lean(2, 150, 330), pen.lean(3, 115, 145), pen.between(92, 116)
    yield circle(x, y, radius * 1.16, pen.ground)
    yield circle(x, y, radius, pen.shape)
    blades, hole = int(pen.rng.integers(6, 9)), pen.lean(0, 0.3, 0.6)
    for blade in range(blades):
        angle = blade * tau / blades + pen.style[1]
        near, far = angle + 1.9, angle + tau / blades
        yield area(
            [
                (x + radius * cos(angle), y + radius * sin(angle)),
                (x + radius * cos(far), y + radius * sin(far)),
                (x + radius * hole * cos(near), y + radius * hole * sin(near)),
            ],
            pen.ground,
            0.5 + 0.4 * (blade % 2),
        )
    yield circle(x, y, radius * hole * 0.9, pen.light, 0.95)
    yield circle(x - radius * 0.1, y - radius * 0.1, radius * hole * 0.3, "#fff", 0.6)


def skyline(pen: Pen) -> Iterator[str]:
    """A city at night."""
    x, y, radius = pen.lean(2, 80, 400), pen.lean(3, 60, 110), pen.between(32, 54)
    yield circle(x, y, radius * 1.5, pen.light, 0.2)
    yield circle(x, y, radius, pen.light)
    yield circle(x + radius * pen.lean(0, -0.5, 0.5), y - 8, radius * 0.86, pen.sky, 0.85 if pen.style[1] > 0 else 0)
    left = 0.0
    while left < 480:
        width, height = pen.between(38, 66), pen.between(90, 190)
        yield box(left, 320 - height, width - 3, height, pen.ground, 0.92)
        fill = pen.shape if pen.between(0, 1) < 0.35 else pen.light
        yield box(left + pen.between(8, width - 18), 320 - height + 14, 7, 9, fill, 0.9)
        left += width


MOTIFS: Final[Mapping[str, Callable[[Pen], Iterator[str]]]] = {
    one.__name__: one
    for one in (mountains, plates, vinyl, tiles, gears, horizon, orbits, bauhaus, waves, strings, lens, skyline)
}
