"""The process that runs math-verify: ``python -m gatepo.rewards.worker``, spoken to by :mod:`gatepo.rewards.verifier`.

One JSON object per line in, ``{"gold": ..., "prediction": ...}``; one JSON boolean per line out. Its parent kills it
when it is late, so math-verify's own time-outs (signals, whole seconds) are switched off.
"""

from __future__ import annotations

import json
import resource
import sys


def main(memory_bytes: int) -> None:
    """Answer until the input ends. An answer that needs more memory than allowed, or breaks the parser, is wrong."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    replies, sys.stdout = sys.stdout, sys.stderr  # nothing that a library prints may look like a reply
    from math_verify import parse, verify

    def equal(gold: str, prediction: str) -> bool:
        # raise_on_error is off: what math-verify cannot read does not match.
        left = parse(f"${gold}$", parsing_timeout=None) or parse(gold, parsing_timeout=None)
        right = parse(f"${prediction}$", parsing_timeout=None) or parse(prediction, parsing_timeout=None)
        return bool(left and right and verify(left, right, timeout_seconds=None))

    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            verdict = equal(request["gold"], request["prediction"])
        except (MemoryError, RecursionError):
            verdict = False
        print(json.dumps(verdict), file=replies, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
