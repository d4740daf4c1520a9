"""Rebuild the embedded model, tokenizer and data (about 20 minutes on two cores):

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m gatepo.tiny.build FOLDER

Two stages: first the skill, then the habits that reinforcement learning starts from. The committed files in this
folder were made by exactly this script. The data and the tokenizer come out equal to
the byte; the weights depend on the machine's floating point.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from gatepo.tiny import problems

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 512
CHUNK = 16  # sequences that run at once: small enough for the processor's cache
TRAINING_ROWS = 3000  # per source
EVALUATION_ROWS = 200  # per level
EVALUATION_NAMES = {1: "easy", 2: "medium", 3: "hard"}


def chat(question: str) -> str:
    """Give the generation prompt for one user turn; equal to the chat template's output."""
    return f"{START}user\n{question}{END}\n{START}assistant\n"


def unique_problems(
    rng: random.Random, sources: list[str], levels: tuple[int, ...], count: int, taken: set[str]
) -> list[problems.Problem]:
    """Give ``count`` problems, cycling over sources and levels, whose questions are not in ``taken`` (which grows)."""
    found: list[problems.Problem] = []
    while len(found) < count:
        level = levels[len(found) % len(levels)]
        source = sources[len(found) // len(levels) % len(sources)]
        problem = problems.SOURCES[source](rng, level)
        if problem.question not in taken:
            taken.add(problem.question)
            found.append(problem)
    return found


def write_data(folder: Path) -> set[str]:
    """Write the two training sources and the three evaluation sets; return the evaluation questions."""
    rng, taken = random.Random(0), set[str]()
    folder.mkdir(parents=True, exist_ok=True)
    sets = {
        name: unique_problems(rng, list(problems.SOURCES), (level,), EVALUATION_ROWS, taken)
        for level, name in EVALUATION_NAMES.items()
    }
    held_out = set(taken)
    sets |= {
        source: unique_problems(rng, [source], problems.LEVELS, TRAINING_ROWS, taken) for source in problems.SOURCES
    }
    for name, rows in sets.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({"question": row.question, "answer": str(row.answer), "level": row.level}) + "\n")
    return held_out


def samples(rng: random.Random, habits: problems.Habits, held_out: set[str]) -> Iterator[tuple[str, str]]:
    """Give endless (prompt, completion) pairs for pretraining; never an evaluation question."""
    while True:
        source, level = rng.choice(list(problems.SOURCES)), rng.choice(problems.LEVELS)
        problem = problems.SOURCES[source](rng, level)
        if problem.question not in held_out:
            yield chat(problem.question), problems.solution(rng, problem, habits) + END


def build_tokenizer(held_out: set[str]) -> Qwen2Tokenizer:
    """Build a byte-level BPE that splits every digit: any text can be encoded, and numbers read digit by digit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    pairs = samples(random.Random(1), problems.SKILL, held_out)
    text = ["".join(next(pairs)) for _ in range(20_000)]
    for marker in (START, END, *TAGS):
        text = [line.replace(marker, "\n") for line in text]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[PAD, START, END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    return as_qwen2(json.loads(tokenizer.to_str())["model"])


def as_qwen2(bpe: dict[str, Any]) -> Qwen2Tokenizer:
    """Give the trained merges behind Qwen2's own splitting of text, which transformers puts before any Qwen2 model.

    ``unk_token`` is named only so that none is added: bytes are never unknown.
    """
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(merge) for merge in bpe["merges"]],
        unk_token=PAD,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    # The tags are tokens of their own but not "special": decoding keeps them, as the reward needs.
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return tokenizer


def new_model(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """Give a Qwen2 of 0.9M parameters; head_dim 32 suits vLLM's CPU kernels, the untied head its weight reload."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            dtype="float32",
        )
    )


def batch_of(tokenizer: Qwen2Tokenizer, pairs: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Give token ids and labels [N, T], padded on the right; only completion tokens have labels (others -100)."""
    prompts = tokenizer([p for p, _ in pairs])["input_ids"]
    completions = tokenizer([c for _, c in pairs])["input_ids"]
    width = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
    labels = torch.full((len(pairs), width), -100)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        labels[row, len(prompt) : end] = torch.tensor(completion)
    return ids, labels


def backward(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, pairs: list[tuple[str, str]], size: int) -> float:
    """Add a chunk's gradient; sequences weigh the same whatever their length, so that chunks need no common count."""
    ids, labels = batch_of(tokenizer, pairs)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none")
    loss = (losses.sum(dim=1) / (labels[:, 1:] >= 0).sum(dim=1)).sum() / size
    loss.backward()
    return loss.item()


def all_reduce(model: Qwen2ForCausalLM) -> None:
    """Sum the gradient over the processes, in one message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def pretrain(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    habits: problems.Habits,
    held_out: set[str],
    *,
    steps: int,
    size: int,
    lr: float,
) -> None:
    """Maximise the likelihood of the worked solutions, slips and missing tags included."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    pairs = samples(random.Random(f"pretrain {rank}"), habits, held_out)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.05)
    started = time.monotonic()
    for step in range(steps):
        batch = sorted((next(pairs) for _ in range(size // ranks)), key=lambda pair: len(pair[0]) + len(pair[1]))
        loss = sum(backward(model, tokenizer, batch[i : i + CHUNK], size) for i in range(0, len(batch), CHUNK)) * ranks
        all_reduce(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if rank == 0 and (step % 100 == 0 or step == steps - 1):
            print(f"step {step} loss {loss:.4f} seconds {time.monotonic() - started:.0f}", flush=True)


def save(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Save in bf16, which halves the size; the loader brings it back to the precision that the run asks for."""
    if dist.get_rank() == 0:
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    dist.barrier()


def main() -> None:
    """Build tokenizer, data and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where skill/, model/ and data/ are written")
    parser.add_argument("--size", type=int, default=64, help="sequences per step")
    parser.add_argument("--from-skill", action="store_true", help="take folder/skill from an earlier call")
    options = parser.parse_args()

    dist.init_process_group("gloo")
    held_out = write_data(options.folder / "data")
    tokenizer = build_tokenizer(held_out)
    if not options.from_skill:
        model = new_model(tokenizer)
        pretrain(model, tokenizer, problems.SKILL, held_out, steps=2500, size=options.size, lr=3e-3)
        save(model, tokenizer, options.folder / "skill")
    # The second stage starts from what the first one saved, so that it can be changed without the time of the first.
    model = Qwen2ForCausalLM.from_pretrained(options.folder / "skill", dtype=torch.float32).train()
    pretrain(model, tokenizer, problems.START, held_out, steps=200, size=options.size, lr=5e-4)
    save(model, tokenizer, options.folder / "model")


if __name__ == "__main__":
    main()
