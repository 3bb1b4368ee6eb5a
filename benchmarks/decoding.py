"""What a request costs: the forms of the engine, other ways to the same answer, the constraint, and how it all grows.

    python benchmarks/decoding.py [--only forms beside constraint sweeps device] [--plot FILE]

* forms: the engine at the reference shape in each precision, with returning users, and a floor of products alone.
* beside: the same catalogue by transformers' `generate`, and by the model as it is trained.
* constraint: microseconds a step and request that the trie costs a beam.
* sweeps: time and memory by the catalogue, the beam, the history and the batch.
* device: recorded graphs on a CUDA device, beside NVIDIA's published figures; `--on cpu` tries the same operators
  without one.

CPU time on one thread (of the device, wall time); medians of interleaved rounds (of sweeps, of one point's rounds). The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from asterism.core.memory import keep_freed_memory
from asterism.decoding.trie import Trie
from decoding_parts.beside import measure_beside
from decoding_parts.device import SHAPES as DEVICE_SHAPES
from decoding_parts.device import measure_device
from decoding_parts.figure import plot
from decoding_parts.forms import all_forms
from decoding_parts.rounds import interleaved
from decoding_parts.sweeps import measure_sweeps
from decoding_parts.world import Shape, World
from trie import make_table, measure_steps

SHAPE: Final = ("width", "blocks", "heads", "events", "beam", "items", "seed")
CONSTRAINED_BEAM: Final = 50


def shape_of(arguments: argparse.Namespace) -> Shape:
    """The reference shape, as far as nothing else was asked for."""
    return Shape(**{name: getattr(arguments, name) for name in SHAPE})


@torch.inference_mode()
def forms(arguments: argparse.Namespace) -> dict[str, Any]:
    """The engine's forms by batch."""
    world, found = World(shape_of(arguments)), {}
    for batch in arguments.batches:
        calls = max(1, arguments.requests // batch)  # one request alone would always meet cold caches
        works = all_forms(world, batch, arguments.rounds, calls)
        found[str(batch)] = interleaved(
            works, batch, dict.fromkeys(works, calls), arguments.rounds, f"forms, batch {batch}"
        )
        for name, figures in found[str(batch)].items():
            print(f"batch {batch:3d}  {name:24s} {json.dumps(figures)}", file=sys.stderr)
    return found


def beside(arguments: argparse.Namespace) -> dict[str, Any]:
    """The engine and others, by batch and at each one's best."""
    found = measure_beside(
        World(shape_of(arguments)),
        sorted(arguments.batches),
        arguments.slow_rounds,
        arguments.requests,
        arguments.vocabulary,
    )
    print(json.dumps(found["best"]), json.dumps(found["engine_is_faster"]), file=sys.stderr)
    return found


def constraint(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the trie costs a step of one request, by catalogue."""
    found = {}
    for items in arguments.constrained_items:
        view = Trie.from_table(make_table(items, np.random.default_rng(arguments.seed))).snapshot()
        found[str(items)] = measure_steps(view, CONSTRAINED_BEAM, None, [], arguments.repeats)
        print(items, json.dumps(found[str(items)]), file=sys.stderr)
    return {"beam": CONSTRAINED_BEAM, "by_catalogue": found}


def sweeps(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Costs by what grows, drawn if asked."""
    values = {name: getattr(arguments, f"{name}_values") for name in ("catalogue", "beam", "history", "batch")}
    found = measure_sweeps(values, shape_of(arguments))
    if arguments.plot is not None:
        size = f"width {arguments.width}, {arguments.blocks} blocks, {arguments.events} events, beam {arguments.beam}"
        plot(
            found,
            f"A request in bf16 on one thread: {size}, {arguments.items:,} items unless the axis says",
            arguments.plot,
        )
    return found


def device(arguments: argparse.Namespace) -> dict[str, Any] | str:
    """What a device makes of whole batches."""
    if arguments.on == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA device"
    works = {name: arguments.device_batches for name in arguments.device_shapes}
    return measure_device(arguments.on, works, arguments.items, arguments.device_seconds, arguments.seed)


PARTS: Final[dict[str, Callable[[argparse.Namespace], Any]]] = {
    "forms": forms,
    "beside": beside,
    "constraint": constraint,
    "sweeps": sweeps,
    "device": device,
}


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    for name in SHAPE:
        found.add_argument(f"--{name}", type=int, default=Shape._field_defaults[name])
    lists = {
        "batches": [32, 8, 1],
        "constrained-items": [10_000, 1_000_000],
        "catalogue-values": [10_000, 100_000, 1_000_000, 10_000_000],
        "beam-values": [10, 20, 50, 100, 200, 500, 1000],
        "history-values": [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000],
        "device-batches": [1, 16, 64, 256],
        "batch-values": [1, 2, 4, 8, 16, 32, 64, 128],
    }
    for name, values in lists.items():
        found.add_argument(f"--{name}", type=int, nargs="*", default=values)
    found.add_argument("--on", default="cuda", help="where the part `device` runs")
    found.add_argument("--device-shapes", nargs="+", choices=DEVICE_SHAPES, default=list(DEVICE_SHAPES))
    found.add_argument("--device-seconds", type=float, default=5.0, help="for each of its batches")
    found.add_argument("--rounds", type=int, default=15, help="of the engine's forms")
    found.add_argument("--slow-rounds", type=int, default=5, help="beside transformers")
    found.add_argument("--requests", type=int, default=128, help="of a form in a round")
    found.add_argument("--repeats", type=int, default=200, help="of a step of the constraint")
    found.add_argument("--vocabulary", type=int, default=151_936, help="of the language model that is not cut")
    found.add_argument("--plot", type=Path, help="draw the sweeps into this file")
    return found


def main() -> None:
    """Parse the arguments, measure."""
    arguments = parser().parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    found = {name: PARTS[name](arguments) for name in dict.fromkeys(arguments.only)}
    settings = {name: value for name, value in vars(arguments).items() if name not in ("plot", "only")}
    print(json.dumps({"benchmark": "decoding", "threads": 1, **settings, **found}))


if __name__ == "__main__":
    main()
