"""The status of an engine as a message, and several of them as one status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from asterism.serving.engine.status import EngineStatus, ReplicaStatus
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.queries import PACKED_FORMAT
from asterism.serving.scheduling import EngineFigures

NO_FIGURES = EngineFigures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, {}, 1.0, 0.0, 0.0, 0.0)


def description_of(status: EngineStatus, *, refusal: str | None, items: int) -> model_pb2.Description:
    """A status as it is sent."""
    figures = status.figures._asdict()
    return model_pb2.Description(
        ready=status.ready,
        error=status.error,
        refusal=refusal,
        bundle_version=status.bundle_version,
        widths=status.widths,
        replicas=[model_pb2.Replica(**one._asdict()) for one in status.engines],
        figures=model_pb2.Figures(**figures),
        packed_format=PACKED_FORMAT,
        items=items,
    )


def status_of(message: model_pb2.Description) -> EngineStatus:
    """The status that a message tells."""
    engines = tuple(_replica(one) for one in message.replicas)
    return EngineStatus(
        ready=message.ready,
        pid=engines[0].pid if engines else None,
        starts=sum(one.starts for one in engines),
        error=message.error if message.HasField("error") else None,
        bundle_version=message.bundle_version,
        widths=tuple(message.widths),
        engines=engines,
        figures=_figures(message.figures),
    )


def merged(found: Sequence[EngineStatus]) -> EngineStatus:
    """Several engine processes as one: counts are added up, estimates are those of the slowest."""
    if len(found) == 1:
        return found[0]
    first = next((one for one in found if one.ready), found[0])
    return EngineStatus(
        ready=any(one.ready for one in found),
        pid=first.pid,
        starts=sum(one.starts for one in found),
        error=next((one.error for one in found if one.error is not None), None),
        bundle_version=first.bundle_version,
        widths=first.widths,
        engines=tuple(engine for one in found for engine in one.engines),
        figures=_added([one.figures for one in found]),
        processes=tuple(found),
    )


def _added(figures: Sequence[EngineFigures]) -> EngineFigures:
    batches = sum(one.batches for one in figures)
    counts = {
        name: sum(getattr(one, name) for one in figures)
        for name in ("waiting", "under_way", "answered", "degraded", "shed", "late", "withdrawn", "failed")
    }
    slowest = {name: max(getattr(one, name) for one in figures) for name in ("speed", "spread", "lone_ms", "full_ms")}
    widths = sum((Counter(one.widths) for one in figures), Counter[int]())
    return EngineFigures(
        **counts,
        batches=batches,
        mean_rows=sum(one.mean_rows * one.batches for one in figures) / max(1, batches),
        widths=dict(sorted(widths.items(), reverse=True)),
        **slowest,
    )


def _replica(one: model_pb2.Replica) -> ReplicaStatus:
    return ReplicaStatus(
        ready=one.ready,
        pid=one.pid if one.HasField("pid") else None,
        starts=one.starts,
        error=one.error if one.HasField("error") else None,
        kept_bytes=dict(one.kept_bytes),
    )


def _figures(message: model_pb2.Figures) -> EngineFigures:
    told = {name: getattr(message, name) for name in EngineFigures._fields}
    return EngineFigures(**{**told, "widths": dict(sorted(message.widths.items(), reverse=True))})
