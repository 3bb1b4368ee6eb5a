"""Examples of what answers hold, for the OpenAPI description; a test holds them to the models."""

from __future__ import annotations

from typing import Any, Final

ITEM: Final[dict[str, Any]] = {
    "item_id": "i42",
    "title": "Lamp with a paper shade",
    "description": None,
    "categories": ["home", "lamps"],
    "brand": "Vega",
    "price": 24.5,
    "kind": "product",
    "available": True,
    "cover": "/api/v1/item/i42/cover",
    "semantic_id": [12, 201, 7],
    "semantic_id_text": "<a_12><b_201><c_7>",
}
SLATE: Final[dict[str, Any]] = {
    "attribution_id": "0b9f6d2b8c7a4a6f9f6f4f6b3c1d2e3f",
    "source": "model",
    "bundle_version": "fead9dfd5493dd01",
    "latency_ms": 6.1,
    "cursor": "AQAAAAA",
    "items": [
        {
            **ITEM,
            "source": "model",
            "score": -1.73,
            "because": {"item_id": "i7", "title": "Candle holder", "similarity": 0.81},
            "weighed": None,
            "propensity": 1.0,
            "explored": False,
        }
    ],
}
BATCH: Final[dict[str, Any]] = {
    "answers": [
        {"code": 0, "message": "ok", "data": SLATE},
        {"code": 20008, "message": "the cursor is garbled; send the request again without one", "data": None},
    ]
}
FEEDBACK: Final[dict[str, Any]] = {"accepted": 1, "duplicates": 0, "events": [{"event_id": "9f1c", "new": True}]}
SIMILAR: Final[dict[str, Any]] = {"mode": "semantic", "items": [{**ITEM, "similarity": 0.93}]}
SAMPLE: Final[dict[str, Any]] = {"users": [{"user_id": "u1", "events": 12, "interest": "lamps"}]}
PROFILE: Final[dict[str, Any]] = {
    "user_id": "u1",
    "events": 12,
    "segment": "lamps",
    "interests": [{"category": "lamps", "weight": 0.75}, {"category": "garden", "weight": 0.25}],
    "recent": [{"item": ITEM, "action": "click", "timestamp": 1767225600}],
}
SESSION: Final[dict[str, Any]] = {"session_id": "kQ1zq2m0dXo9mJrQn0gk4vJ3tTq8sV5u"}
LIVE: Final[dict[str, Any]] = {"status": "live"}
READY: Final[dict[str, Any]] = {
    "bundle_version": "fead9dfd5493dd01",
    "bundle_name": "bundle",
    "items": 20000,
    "engine": {
        "ready": True,
        "pid": 4711,
        "starts": 1,
        "error": None,
        "bundle_version": "fead9dfd5493dd01",
        "widths": [20, 14, 10],
        "engines": [{"ready": True, "pid": 4711, "starts": 1, "error": None, "kept_bytes": {"states": 1048576}}],
        "figures": {
            "waiting": 0,
            "under_way": 1,
            "answered": 1201,
            "degraded": 3,
            "shed": 0,
            "late": 0,
            "withdrawn": 1,
            "failed": 0,
            "batches": 640,
            "mean_rows": 1.9,
            "widths": {"20": 637, "14": 3},
            "speed": 1.0,
            "spread": 1.2,
            "lone_ms": 2.4,
            "full_ms": 19.0,
        },
    },
}
