"""Sampling with transformers: distribution, seeds, ends, caches."""

import pytest
import torch
from transformers import DynamicCache

from gatepo.rollout.base import completion_seed
from gatepo.rollout.cache import growing_cache
from gatepo.rollout.transformers import TransformersRollout, sample
from gatepo.types import Completion, Group, Prompt, Sampling


def prompt(tokenizer, index: int, question: str) -> Prompt:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    ids = tuple(tokenizer(text)["input_ids"])
    return Prompt(index=index, source="words", question=question, answer="", token_ids=ids)


@pytest.fixture(scope="module")
def prompts(tiny_tokenizer) -> list[Prompt]:
    questions = [
        "Compute 3 + 4.",
        "Tom has 12 apples. Tom loses 5. How many apples does Tom have now?",
        "Compute 8 * 2.",
    ]
    return [prompt(tiny_tokenizer, i, q) for i, q in enumerate(questions)]


@pytest.fixture(scope="module")
def rollout(tiny_model, tiny_tokenizer) -> TransformersRollout:
    return TransformersRollout(tiny_model, tiny_tokenizer, 256, torch.float32)


SAMPLING = Sampling(temperature=1.0, max_completion_length=48, num_generations=4)


def flat(groups: list[Group]) -> list[Completion]:
    return [c for g in groups for c in g.completions]


def test_sampled_frequencies_are_the_probabilities() -> None:
    n = 200_000
    logits = torch.tensor([2.0, 0.0, -1.0, -30.0]).expand(n, 4)
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    token, logp = sample(logits, uniform, 2.0)
    probability = torch.softmax(logits[0] / 2.0, dim=0)
    frequency = torch.bincount(token, minlength=4) / n
    # five standard deviations of a binomial frequency
    assert ((frequency - probability).abs() < 5 * (probability * (1 - probability) / n).sqrt() + 1e-6).all()
    torch.testing.assert_close(logp, probability.log()[token])


def test_no_token_beyond_the_last_can_be_drawn_and_none_of_probability_zero() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 2)
    token, _ = sample(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), 1.0)
    assert token.tolist() == [1, 2]


def test_seeds_of_completions_do_not_meet() -> None:
    seeds = {completion_seed(s, p, m) for s in range(20) for p in range(20) for m in range(20)}
    assert len(seeds) == 8000
    assert max(seeds) < 2**63


def test_a_sample_does_not_depend_on_its_batch(rollout, prompts) -> None:
    together = rollout.generate(prompts, SAMPLING, seed=5)
    for i, one in enumerate(prompts):
        alone = rollout.generate([one], SAMPLING, seed=5)
        assert [c.token_ids for c in flat(alone)] == [c.token_ids for c in together[i].completions]


def test_the_number_decoded_at_once_changes_nothing(tiny_model, tiny_tokenizer, rollout, prompts) -> None:
    small = TransformersRollout(tiny_model, tiny_tokenizer, 4, torch.float32)
    one, other = (flat(r.generate(prompts, SAMPLING, seed=5)) for r in (rollout, small))
    assert [c.token_ids for c in one] == [c.token_ids for c in other]


def test_another_seed_gives_other_samples_and_members_differ(rollout, prompts) -> None:
    one, other = (flat(rollout.generate(prompts, SAMPLING, seed=s)) for s in (5, 6))
    assert [c.token_ids for c in one] != [c.token_ids for c in other]
    assert len({c.token_ids for c in one}) > len(one) // 2


def test_log_probabilities_are_those_of_a_plain_forward_pass(tiny_model, rollout, prompts) -> None:
    """Padding on the left, the repeated cache, dropped rows: nothing of it may show."""
    sampling = Sampling(temperature=0.7, max_completion_length=48, num_generations=4)
    for group in rollout.generate(prompts, sampling, seed=1):
        for c in group.completions:
            ids = torch.tensor([group.prompt.token_ids + c.token_ids])
            with torch.no_grad():
                logits = tiny_model(input_ids=ids).logits[0, len(group.prompt.token_ids) - 1 : -1]
            expected = torch.log_softmax(logits / 0.7, dim=-1).gather(1, torch.tensor(c.token_ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(c.sampler_logp), expected, rtol=0, atol=2e-4)


def test_completions_end_at_the_end_token_or_at_the_limit(tiny_tokenizer, rollout, prompts) -> None:
    sampling = Sampling(temperature=1.0, max_completion_length=24, num_generations=32)
    done = flat(rollout.generate(prompts, sampling, seed=0))
    end = tiny_tokenizer.eos_token_id
    assert {c.finished for c in done} == {True, False}
    for c in done:
        assert c.finished == (c.token_ids[-1] == end)
        assert end not in c.token_ids[:-1]
        assert c.finished or len(c.token_ids) == 24
        assert len(c.sampler_logp) == len(c.token_ids)
        assert "<|im_end|>" not in c.text


def test_new_weights_change_the_samples_and_stamp_the_version(tiny_tokenizer, prompts) -> None:
    from gatepo.model import load_model

    model = load_model("tiny", torch.device("cpu"), None)
    rollout = TransformersRollout(model, tiny_tokenizer, 256, torch.float32)
    before = rollout.generate(prompts, SAMPLING, seed=0)
    other = {n: p.detach() + 0.05 * torch.randn_like(p) for n, p in model.named_parameters()}
    rollout.load_weights(other.items(), version=7)
    after = rollout.generate(prompts, SAMPLING, seed=0)
    assert [c.token_ids for c in flat(before)] != [c.token_ids for c in flat(after)]
    assert {c.policy_version for c in flat(before)} == {0}
    assert {c.policy_version for c in flat(after)} == {7}


def test_the_growing_cache_gives_what_the_concatenating_one_gives_and_keeps_what_was_written(tiny_model) -> None:
    ids_NT = torch.randint(0, 500, (3, 45), generator=torch.Generator().manual_seed(0))
    kept = torch.tensor([2, 0])
    read = {}
    for name, cache in (
        ("growing", growing_cache(tiny_model.config)),
        ("plain", DynamicCache(config=tiny_model.config)),
    ):
        logits = []
        with torch.inference_mode():
            logits.append(tiny_model(ids_NT[:, :5], past_key_values=cache, use_cache=True).logits[:, -1])
            cache.batch_repeat_interleave(2)
            rows = ids_NT.repeat_interleave(2, dim=0)
            for t in range(5, 45):  # beyond the first room, and beyond the one after a selection
                if t == 25:
                    cache.batch_select_indices(kept)
                    rows = rows[kept]
                logits.append(tiny_model(rows[:, t : t + 1], past_key_values=cache, use_cache=True).logits[:, -1])
        read[name] = logits
        assert cache.get_seq_length() == 45
    for growing, plain in zip(read["growing"], read["plain"], strict=True):
        torch.testing.assert_close(growing, plain, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        whole = tiny_model(ids_NT[[1, 0]], use_cache=False).logits[:, -1]
    torch.testing.assert_close(read["growing"][-1], whole, rtol=1e-4, atol=1e-4)
