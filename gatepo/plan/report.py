"""The plan of a run as text."""

from __future__ import annotations

from gatepo.plan import resolve
from gatepo.plan.cost import GIB, Part, flops, head_in_parts, host_memory, least_seconds, memory, seconds
from gatepo.plan.hardware import HARDWARE
from gatepo.plan.shape import ModelShape, model_shape
from gatepo.plan.work import Layout, Workload
from gatepo.rollout.base import RolloutOption
from gatepo.schema import TrainConfig
from gatepo.settings import name_of
from gatepo.text_table import Rows, of_figures


def report(settings: TrainConfig) -> str:
    """Write the whole plan as text."""
    shape = model_shape(settings.model.path)
    work = resolve.workload(settings)
    layout = resolve.layout(settings, shape, work)
    epochs = resolve.epochs(settings, work.prompts_taken)
    parts = [
        model_line(settings.model.path, shape, settings),
        of_figures(arithmetic(work, epochs, shape.looks_back)),
        of_figures(memory_rows(shape, work, layout)),
        of_figures(host_rows(shape, work, layout)),
        *filter(None, [sampler_note(shape, work, layout, settings.rollout)]),
        of_figures(flops_rows(shape, work, layout)),
        of_figures(seconds_rows(shape, work, layout)),
        NOTES.format(prompt=work.prompt_length, completion=work.completion_length),
    ]
    return "\n\n".join(parts)


PHASES = ("starting", "sampling", "learning")
NOTES = """\
Prompts of {prompt:,} and completions of {completion:,} tokens, all of which learn. While learning, a CPU reads each
prompt once for its completions in a micro-batch, if every layer of the model attends to all before a token. GPUs read
each completion with its prompt, and what they would save is on paper, until it has been measured there; memory is that
of reading so. The head in bf16 parts is on paper too: a GPU takes it where that measures faster. Starting is while the
trainer is made; reference and sampler come after it, with no more than sampling takes. Memory leaves out what allocator
and libraries take; seconds are work over a device's peaks, without communication, rewards and weight sync. Formulas and
sources: gatepo/plan/cost.py, gatepo/plan/hardware.py."""


def model_line(path: str, shape: ModelShape, settings: TrainConfig) -> str:
    """Describe the model and how it is kept."""
    size = settings.model.adapter.size(shape.linears, shape.layers)
    learns = f"\n{settings.model.adapter.label}: {size.parameters:,} parameters learn" if size else ""
    return (
        f"{path}: {shape.parameters:,} parameters, {shape.layers} layers of {shape.hidden:,}, "
        f"vocabulary {shape.vocabulary:,}\n{settings.model.dtype}, engine {settings.engine.label}, "
        f"rollout {name_of(settings.rollout)}{learns}"
    )


def arithmetic(work: Workload, epochs: dict[str, float | None], looks_back: bool) -> Rows:
    """Say what follows from the batch settings, for all devices and for one."""
    G = work.num_generations
    one = f"{work.accumulation} micro-batches of {work.micro_batch}"
    tokens = {
        shares: [f"{work.tokens_read(prompts, shares):,}" for prompts in (work.prompts, work.device_prompts)]
        for shares in (False, True)
    }
    return [
        ("of one update", f"{work.devices} devices" if work.devices > 1 else "1 device", "each device (rank)"),
        ("prompts = groups", f"{work.prompts:,}", f"{work.device_prompts:,}"),
        (f"completions (groups of {G})", f"{work.completions:,}", f"{work.device_completions:,}"),
        ("gradient accumulation", "", one),
        ("tokens through the model", *tokens[False]),
        *([("each prompt once, as on a CPU", *tokens[True])] if looks_back else []),
        ("of the run", "", ""),
        ("updates", f"{work.updates:,}", ""),
        (f"rollout batches (mu = {work.iterations})", f"{work.rollout_batches:,}", ""),
        ("prompts taken", f"{work.prompts_taken:,}", ""),
        ("completions sampled", f"{work.completions_sampled:,}", ""),
        ("tokens sampled, at most", f"{work.tokens_sampled:,}", ""),
        *((f"epochs of {name}", "unknown" if e is None else f"{e:.2f}", "") for name, e in epochs.items()),
    ]


def memory_rows(shape: ModelShape, work: Workload, layout: Layout) -> Rows:
    """Give GiB of one device by part and phase; what it needs is the largest sum."""
    parts = memory(shape, work, layout)
    sums = totals(parts)
    return [
        ("GiB of one device", *PHASES),
        *part_rows(parts),
        ("total", *map(figure, sums)),
        *((f"of {h.name} ({h.memory:.0f} GiB)", *(fits(total / h.memory) for total in sums)) for h in HARDWARE),
    ]


def host_rows(shape: ModelShape, work: Workload, layout: Layout) -> Rows:
    """Give GiB of the hosts beside GPUs, of one rank and of all ranks together."""
    parts = host_memory(shape, work, layout)
    sums = totals(parts)
    together = (f"all {work.devices} ranks", *(figure(work.devices * x) for x in sums))
    return [
        ("GiB of host memory, one rank", *PHASES),
        *part_rows(parts),
        ("total", *map(figure, sums)),
        *([together] if work.devices > 1 else []),
    ]


def totals(parts: list[Part]) -> list[float]:
    """Add up the parts of each phase, GiB."""
    return [sum(getattr(part, phase) for part in parts) / GIB for phase in PHASES]


def part_rows(parts: list[Part]) -> Rows:
    """Write the parts that take anything."""
    found = [(part.name, *(gib(getattr(part, phase)) for phase in PHASES)) for part in parts]
    return [row for row in found if any(row[1:])]


def gib(count: float) -> str:
    """Write bytes in GiB, nothing for none."""
    return figure(count / GIB) if count else ""


def figure(value: float) -> str:
    """Write three digits, and never an exponent on large ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def fits(share: float) -> str:
    """Write a share of a device's memory."""
    return f"{share:.0%}" + (" does not fit" if share > 1 else "")


def sampler_note(shape: ModelShape, work: Workload, layout: Layout, rollout: RolloutOption) -> str | None:
    """Let the sampler say what it must be given; None where it says nothing."""
    parts = memory(shape, work, layout)
    need = sum(part.sampling for part in parts if part.name.startswith("sampler")) / GIB
    rest = sum(part.sampling for part in parts) / GIB - need
    return rollout.memory_note(need, rest, {hardware.name: hardware.memory for hardware in HARDWARE[:-1]})


def flops_rows(shape: ModelShape, work: Workload, layout: Layout) -> Rows:
    """Give workload by part, of a rollout batch with its mu updates, and of the mean update."""
    done, mu = flops(shape, work, layout, work.prompts), work.iterations
    batch = {
        "rollout: prefill": done.prefill,
        "rollout: decode": done.decode,
        "forward and backward: body": mu * done.body,
        "forward and backward: head, fp32": mu * done.head,
        "recompute": mu * done.recompute,
    }
    batch["total"] = total = sum(batch.values())
    shared, saved = shape.looks_back, flops(shape, work, layout, work.prompts, shares=True)
    once = total - mu * (done.body + done.recompute - saved.body - saved.recompute)
    unit, name = next((u, n) for u, n in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1, "FLOP")) if total >= u)
    return [
        (f"{name}, all devices", f"rollout batch, {mu} updates", "mean update", "share"),
        *((part, figure(x / unit), figure(x / mu / unit), f"{x / total:.1%}") for part, x in batch.items() if x),
        *([("total, each prompt once", figure(once / unit), figure(once / mu / unit), f"{once / total:.1%}")] * shared),
    ]


def seconds_rows(shape: ModelShape, work: Workload, layout: Layout) -> Rows:
    """Give least times by part, for each device that is known."""
    found = [seconds(shape, h, work, layout) for h in HARDWARE]
    updates = [least_seconds(shape, h, work, layout) for h in HARDWARE]
    once = [least_seconds(shape, h, work, layout, shares=shape.looks_back) for h in HARDWARE]
    heads = [s.head if h.cpu else head_in_parts(shape, h, work, layout) for h, s in zip(HARDWARE, found, strict=True)]
    saved = [max(0, s.head - head) for s, head in zip(found, heads, strict=True)]
    # a vocabulary that is no wider than a slice has a plain head
    parts = [x - less for x, less in zip(once, saved, strict=True)] if layout.slice_width else []
    rows = {
        "rollout batch: prefill": [s.prefill for s in found],
        "rollout batch: decode": [s.decode for s in found],
        "update: body": [s.body for s in found],
        "update: head, fp32": [s.head for s in found],
        "update: recompute": [s.recompute for s in found],
        "update: optimizer": [s.optimizer for s in found],
        "mean update, at the least": updates,
        "the same, each prompt once": once,
        "and the head in bf16 parts": parts,
    }
    many = f"{work.devices} x " if work.devices > 1 else ""
    return [
        ("seconds, at the least", *(f"{many}{h.name}" for h in HARDWARE)),
        *((name, *(figure(x) for x in values)) for name, values in rows.items() if any(values)),
        ("the whole run, hours", *(figure(work.updates * x / 3600) for x in updates)),
    ]
