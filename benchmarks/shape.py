"""The model, tokenizer and prompts that all sides of the benchmark share.

A Qwen2 of 0.8M parameters with random weights: hidden 128, 4 layers, 102 tokens. Its end token has an id outside the
vocabulary of the head, so that no side can stop early and every completion has its full length.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PROMPTS, G, LENGTH, ITERATIONS, VOCABULARY = 16, 8, 64, 2, 102


def write(folder: Path) -> None:
    """``folder/model`` in transformers' format and ``folder/prompts.jsonl``."""
    characters = ["<pad>", "<unk>", *string.printable[:95], "\n", "\t", "é", "ü", "ß"]
    assert len(characters) == VOCABULARY
    vocabulary = {c: i for i, c in enumerate(characters)} | {"<end>": VOCABULARY}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", model_max_length=512
    ).save_pretrained(folder / "model")
    torch.manual_seed(0)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=None,
            pad_token_id=0,
            eos_token_id=VOCABULARY,
        )
    ).save_pretrained(folder / "model")
    with (folder / "prompts.jsonl").open("w") as file:
        for i in range(1000):
            file.write(json.dumps({"question": f"{i % 90 + 10}+{i * 7 % 90 + 10}=", "answer": "0"}) + "\n")
