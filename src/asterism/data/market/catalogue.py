"""What is written on items: titles that differ, makers, descriptions; style words follow the latent style."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.core.records import Kind
from asterism.data.market.category import Subcategory, subcategories
from asterism.data.market.config import MarketConfig
from asterism.data.market.latent import ItemTruth

_ATTEMPTS = 12  # at a title nobody has, before an edition is added
_STYLE_SHARPNESS = 5.0  # how surely the style word is the one nearest to the latent style

_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[AEIOUaeiouÉ])(?!One|one|Use|use)")

_PARTS = {
    Kind.PRODUCT: ("{stem}", "{stem} Mk {roman}"),
    Kind.VIDEO: ("{stem}", "{stem}, Part {number}"),
    Kind.ARTICLE: ("{stem}", "{stem}, Part {number}"),
    Kind.MUSIC: ("{stem}", "{stem}, Vol. {number}"),
    Kind.MOVIE: ("{stem}", "{stem} {roman}"),
}
_ROMAN = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
_DESCRIPTIONS = {
    Kind.PRODUCT: (
        "{style} by design: {thing} from {maker} for people who care about {shelf}.",
        "{thing} for daily use, by {maker}. Simple to look after, with a {style} character.",
        "From the {shelf} range of {maker}: {style}, well made, built to last.",
    ),
    Kind.VIDEO: (
        "{maker} takes on {thing}: no hurry, good company, and a {style} ending.",
        "{shelf}, as {maker} sees it: {thing}, step by step, in a {style} mood.",
    ),
    Kind.ARTICLE: (
        "{maker} on {thing}, in a {style} key. A long read from our {shelf} desk.",
        "Twelve minutes on {thing}: what we know, what we do not, and why the {style} view matters.",
    ),
    Kind.MUSIC: (
        "{style} {shelf} from {maker}, recorded in one room over three nights.",
        "{maker} returns with {thing}: {shelf}, {style} and close.",
    ),
    Kind.MOVIE: (
        "A {style} film from {maker}. Shelved under {shelf}; hard to forget.",
        "{maker} presents {thing}: {shelf}, told in a {style} voice.",
    ),
}


@dataclass(frozen=True, slots=True)
class ItemTexts:
    """The words of all items, in dense order."""

    titles: list[str]
    makers: list[str]
    descriptions: list[str]


@dataclass(frozen=True, slots=True)
class _Words:
    maker: str
    style: str
    thing: str
    pattern: str

    def stem(self) -> str:
        text = self.pattern.format(maker=self.maker, style=self.style, thing=self.thing)
        text = re.sub(r"\b([Tt])he the ", r"\1he ", text)
        text = _an(text)
        return text[0].upper() + text[1:]


def describe_items(config: MarketConfig, truth: ItemTruth) -> ItemTexts:
    """Write every item; no two titles are equal, and the parts of a series share their stem."""
    rng = np.random.default_rng([config.seed, 4])
    subs = subcategories()
    meanings = {sub.parent.name: rng.normal(size=(len(sub.parent.styles), config.style_width)) for sub in subs}
    words: list[_Words] = [_Words("", "", "", "")] * len(truth)
    titles = [""] * len(truth)
    used: set[str] = set()
    stems: dict[int, tuple[_Words, str]] = {}
    for item in np.lexsort((truth.part, truth.series)).tolist():
        sub, series = subs[truth.subcategory[item]], int(truth.series[item])
        if series not in stems:
            chosen = _new_stem(sub, truth.style[item], meanings[sub.parent.name], used, rng)
            if series < 0:
                words[item], titles[item] = chosen
                continue
            stems[series] = chosen
        words[item], stem = stems[series]
        titles[item] = _title_of_part(sub.parent.kind, stem, int(truth.part[item]))
        used.add(titles[item])
    descriptions = [_describe(one, subs[sub], rng) for one, sub in zip(words, truth.subcategory.tolist(), strict=True)]
    return ItemTexts(titles, [one.maker for one in words], descriptions)


def _new_stem(
    sub: Subcategory,
    style: NDArray[np.float32],
    meanings: NDArray[np.float64],
    used: set[str],
    rng: np.random.Generator,
) -> tuple[_Words, str]:
    """Words for an item, and a stem that nobody has; where the words run out, an edition number tells them apart."""
    odds = np.exp(_STYLE_SHARPNESS * (meanings @ style) / np.linalg.norm(meanings, axis=1))
    odds /= odds.sum()
    for _ in range(_ATTEMPTS):
        parent = sub.parent
        words = _Words(
            maker=parent.makers[rng.integers(len(parent.makers))],
            style=parent.styles[rng.choice(len(odds), p=odds)],
            thing=sub.things[rng.integers(len(sub.things))],
            pattern=parent.patterns[rng.integers(len(parent.patterns))],
        )
        stem = words.stem()
        if stem not in used:
            break
    else:
        stem = _numbered(stem, used)
    used.add(stem)
    return words, stem


def _numbered(stem: str, used: set[str]) -> str:
    edition = 2
    while f"{stem} (No. {edition})" in used:
        edition += 1
    return f"{stem} (No. {edition})"


def _title_of_part(kind: Kind, stem: str, part: int) -> str:
    first, later = _PARTS[kind]
    return (first if part == 1 else later).format(stem=stem, number=part, roman=_ROMAN[part])


def _describe(words: _Words, sub: Subcategory, rng: np.random.Generator) -> str:
    choices = _DESCRIPTIONS[sub.parent.kind]
    text = choices[rng.integers(len(choices))].format(
        maker=words.maker, style=words.style.lower(), thing=words.thing, shelf=sub.name.lower()
    )
    text = _an(text)
    return text[0].upper() + text[1:]


def _an(text: str) -> str:
    """Turn "a" before a vowel into "an"."""
    return _BEFORE_VOWEL.sub(r"\1n ", text)
