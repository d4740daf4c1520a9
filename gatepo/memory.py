"""How the process keeps its memory, and what is said when there is not enough. No torch.

glibc's numbers are those of its malloc.h.
"""

from __future__ import annotations

import ctypes

from gatepo.stopwatch import DURING

KEPT_MIB = 128  # of the head: of 1,024 tokens of Qwen2.5-0.5B's 896 lie in its gradient, the others take 74 MiB
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

SMALLER = {
    "rollout": "rollout.max_sequences or sampling.max_completion_length, with vllm also rollout.memory or .cache_gib",
    "sync": "rollout.memory with vllm, or shard the trainer more (engine=deepspeed engine.zero_stage=3)",
    "train": "batch.micro, batch.micro_tokens or sampling.max_completion_length; model.activation_checkpointing=true, "
    "model.dtype=bfloat16 and a higher engine.zero_stage with engine=deepspeed also help",
}
"""What makes each part of an update smaller."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether a GPU or the host is out of memory, through torch or through Python."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error) for part in words)
    )


def out_of_memory_line(error: BaseException) -> str:
    """Say which part was being run, and which settings would lower its memory."""
    notes = getattr(error, "__notes__", [])
    part = next((note.removeprefix(DURING) for note in notes if note.startswith(DURING)), None)
    asked = " ".join(str(error).split())[:200]
    if part is None:
        return f"out of memory while the run was set up ({asked}); choose a smaller model.path, or more devices"
    remedy = SMALLER.get(part, "batch.prompts")
    return f"out of memory during {part} ({asked}); lower {remedy}. python -m gatepo.plan shows what each part needs"


def keep_freed_memory() -> None:
    """Let the process keep what it frees, up to 2 GiB, where the C library is glibc; elsewhere nothing changes.

    By default each large activation is a mapping of its own, given back when it is freed and cleared page by page when
    the next micro-batch asks for it again. Resident memory does not shrink between updates then; its peak stays.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
