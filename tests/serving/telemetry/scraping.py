"""What a scrape reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families


def value(source: CollectorRegistry | str, name: str, /, **labels: str) -> float | None:
    """The sum over the samples with this name and these labels; None where there is none."""
    text = source if isinstance(source, str) else generate_latest(source).decode()
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None
