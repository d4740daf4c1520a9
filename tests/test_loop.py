"""The loop beyond its plain path, with the embedded model: several rounds, early stops, references, filters."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from composed import algorithm as composed_algorithm
from composed import typed

from gatepo.errors import TrainingStopped
from gatepo.loop import Algorithm, noise_floors, sample_groups, train
from gatepo.objective.correction import Truncate
from gatepo.objective.ledger import eur_ledger
from gatepo.rewards.base import RewardFunction
from gatepo.state import RunState
from gatepo.stopwatch import Stopwatch
from gatepo.types import make_batch
from gatepo.world import World

SMALL = ("batch.prompts=4", "batch.num_generations=4", "batch.micro=8", "sampling.max_completion_length=40")


@pytest.fixture(scope="module")
def reward() -> Iterator[RewardFunction]:
    function = typed().reward.make()
    yield function
    function.close()


def algorithm(reward: RewardFunction, *overrides: str) -> Algorithm:
    settings = typed(*SMALL, *overrides)
    return replace(composed_algorithm(settings), reward=reward)


def trained(made: Algorithm) -> tuple[list[dict[str, float]], RunState]:
    rows: list[dict[str, float]] = []
    state = RunState(seed=0)
    train(made, state, [lambda _, row: rows.append(row)])
    return rows, state


def test_dynamic_sampling_leaves_no_group_of_equal_rewards_but_the_counted_ones(reward: RewardFunction) -> None:
    pairs = ("updates=4", "batch.num_generations=2")  # whose two rewards are often the same
    plain, _ = trained(algorithm(reward, *pairs))
    rows, state = trained(algorithm(reward, *pairs, "batch.max_rounds=3"))
    assert max(row["frac_reward_zero_std"] for row in plain) > 0
    assert all("sampling/rounds" not in row for row in plain)
    assert all(row["frac_reward_zero_std"] == row["sampling/filled_frac"] for row in rows)
    assert max(row["sampling/rounds"] for row in rows) > 1
    assert state.position == 4 * sum(row["sampling/rounds"] for row in rows[::2])  # prompts drawn, kept or not


def test_groups_are_filtered_by_the_answer_alone_where_asked_to(reward: RewardFunction) -> None:
    """DAPO's filter: a group that is all right or all wrong is left out, whatever its formats and lengths are worth."""
    found = {}
    for key in ("total", "answer"):
        made = algorithm(reward, "batch.prompts=8", "batch.max_rounds=2", f"batch.filter={key}")
        _, figures, metrics = sample_groups(made, RunState(seed=0), Stopwatch())
        all_alike = [len({one.parts["answer"] for one in group.rewards}) == 1 for group in figures]
        assert len(all_alike) == 8
        found[key] = sum(all_alike), round(8 * metrics["sampling/filled_frac"])
    assert found["total"][0] > found["total"][1]  # kept for their formats, and all right or all wrong
    assert found["answer"][0] == found["answer"][1]  # the counted ones, for which two rounds were not enough


def test_a_batch_gets_no_further_iteration_beyond_the_deviation(reward: RewardFunction) -> None:
    iterations = ("updates=4", "batch.iterations=4")
    assert trained(algorithm(reward, *iterations))[1].rollouts == 1
    assert trained(algorithm(reward, *iterations, "batch.max_deviation=1e-9"))[1].rollouts == 4
    free, state = trained(algorithm(reward, *iterations, "batch.max_deviation=1e9"))
    assert state.rollouts == 1
    assert [row["loss"] for row in free] == [row["loss"] for row in trained(algorithm(reward, *iterations))[0]]


def test_a_penalty_on_the_untrained_model_starts_at_zero_and_holds(reward: RewardFunction) -> None:
    loose, _ = trained(algorithm(reward, "updates=6", "kl=grpo", "kl.coefficient=1e-6"))
    tight, _ = trained(algorithm(reward, "updates=6", "kl=grpo", "kl.coefficient=10"))
    for rows in (loose, tight):
        assert abs(rows[0]["kl"]) < 1e-6
        assert rows[1]["kl"] > 0
    assert tight[-1]["kl"] < 0.7 * loose[-1]["kl"]
    assert tight[0]["kl/coefficient"] == 10


def test_filtered_completions_are_not_learned_from(reward: RewardFunction) -> None:
    made = algorithm(reward)
    groups = made.rollout.generate(made.take_prompts(0, 4), made.sampling, 0)
    finished = torch.tensor([c.finished for group in groups for c in group.completions])
    assert finished.any()
    assert not finished.all()
    batches = [make_batch(groups, torch.ones(4, 4), made.pad_id, made.device, keep) for keep in (True, False)]
    kept, filtered = (batch.completion_NT.any(dim=1) for batch in batches)
    assert kept.all()
    assert torch.equal(filtered, finished)
    with pytest.raises(TrainingStopped, match=r"every completion hit sampling\.max_completion_length"):
        trained(algorithm(reward, "updates=1", "sampling.max_completion_length=2", "sampling.overlong=filter"))


def test_maxrl_refuses_rewards_that_would_turn_its_sign(reward: RewardFunction) -> None:
    advantage = algorithm(reward, "advantage=max_rl").advantage
    assert advantage(torch.tensor([[0.0, 2.0]]))[0].tolist() == pytest.approx([-1, 1], abs=1e-3)
    with pytest.raises(TrainingStopped, match=r"^advantage=max_rl must have rewards >= 0, .* got -0\.5; leave out"):
        advantage(torch.tensor([[-0.5, 0.25]]))  # the mean is -0.125, and the better one would be pushed down


def test_where_rounding_is_negligible_it_is_measured_once(reward: RewardFunction) -> None:
    rows, state = trained(algorithm(reward, "updates=3"))
    assert rows[0]["eur/noise_floor"] == rows[0]["eur/noise_floor/trainer"] == pytest.approx(1, abs=1e-6)  # fp32
    assert all("eur/noise_floor" not in row for row in rows[1:])
    assert state.rounding == 1 - rows[0]["eur/noise_floor/trainer"]


def test_where_rounding_is_not_it_is_measured_on_every_rollout_batch(reward: RewardFunction, monkeypatch) -> None:
    monkeypatch.setattr("gatepo.loop.NEGLIGIBLE", -1.0)
    rows, _ = trained(algorithm(reward, "updates=4"))
    assert [("eur/noise_floor" in row) for row in rows] == [True, False, True, False]


def test_the_noise_floor_worked_by_hand(reward: RewardFunction) -> None:
    # log-probabilities that differ by 0.03 nats at tau = 10, A > 0: exp(-(10 (e^0.03 - 1))^2 / 2) = 0.9547
    # and by 0.05 from the sampler's: exp(-(10 (e^0.05 - 1))^2 / 2) = 0.8769
    made = algorithm(reward, "updates=1")
    groups = made.rollout.generate(made.take_prompts(0, 4), made.sampling, 0)
    batch = make_batch(groups, torch.ones(4, 4), made.pad_id, made.device)
    logp_NT = torch.zeros_like(batch.sampler_logp_NT[:, 1:])
    batch = replace(batch, sampler_logp_NT=torch.full_like(batch.sampler_logp_NT, -0.05))
    trainer, sampler = pytest.approx(0.9547, abs=1e-4), pytest.approx(0.8769, abs=1e-4)

    def floors(**axes: object) -> dict[str, float]:
        return noise_floors(replace(made.objective, **axes), batch, logp_NT, logp_NT + 0.03, World())

    both = {"eur/noise_floor/trainer": trainer, "eur/noise_floor/sampler": sampler}
    assert floors() == {"eur/noise_floor": trainer, "eur/noise_floor/trainer": trainer}
    assert floors(anchor="rollout") == {"eur/noise_floor": sampler} | both
    assert floors(correction=Truncate()) == {"eur/noise_floor": trainer} | both


LEDGER = tuple(f"eur/ledger/{cause}" for cause in ("rounding", "sampler", "staleness", "drift"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("anchor", ["old", "rollout"])
def test_the_ledger_adds_up_to_what_eur_lacks(reward: RewardFunction, dtype: str, anchor: str) -> None:
    """In bf16 the transformers sampler, which decodes token by token, differs from the trainer by rounding too."""
    rows, _ = trained(algorithm(reward, "updates=4", f"model.dtype={dtype}", f"anchor={anchor}"))
    for row in rows:
        assert sum(row[cause] for cause in LEDGER) == pytest.approx(1 - row["eur"], abs=1e-15)
        assert row["eur/ledger/staleness"] == pytest.approx(0, abs=1e-12)
    for first, second in (rows[:2], rows[2:]):
        assert first["eur/ledger/drift"] == pytest.approx(0, abs=1e-12)  # nothing was updated since sampling
        assert second["eur/ledger/drift"] > 1e-3
        assert second["eur/ledger/sampler"] == first["eur/ledger/sampler"]
    assert (rows[1]["eur/ledger/sampler"] > 1e-6) == (dtype == "bfloat16" and anchor == "rollout")
    measured = 1 - rows[0]["eur/noise_floor/trainer"]
    assert rows[1]["eur/ledger/rounding"] == pytest.approx(min(measured, 1 - rows[1]["eur"]), abs=1e-12)


def test_the_ledger_worked_by_hand() -> None:
    def books(**known: float) -> list[float]:
        return [*eur_ledger(**known).values()]

    assert books(taken=0.5, before=0.0, rounding=0.125, by_sampler=False) == [0.125, 0, 0, 0.375]
    assert books(taken=0.0625, before=0.0, rounding=0.125, by_sampler=False) == [0.0625, 0, 0, 0]  # no more than taken
    assert books(taken=0.5, before=0.25, rounding=0.125, by_sampler=False) == [0.125, 0, 0.25, 0.125]  # a stale batch
    assert books(taken=0.5, before=0.25, rounding=0.125, by_sampler=True) == [0.125, 0.125, 0, 0.25]
    assert books(taken=0.125, before=0.25, rounding=0.5, by_sampler=True) == [0.25, 0, 0, -0.125]  # it drifts back
    assert books(taken=-0.5, before=0.0, rounding=0.0, by_sampler=False) == [0, 0, 0, -0.5]  # a slope above 1


def test_tau_follows_eur_and_the_schedule(reward: RewardFunction) -> None:
    steered, state = trained(algorithm(reward, "updates=4", "tau=target_eur", "tau.target=0.8"))
    assert steered[0]["tau/pos"] == 10
    assert steered[2]["tau/pos"] == steered[1]["tau/pos"] > 10  # EUR was above the target
    assert [row["eur"] for row in steered[1::2]] == pytest.approx([0.8, 0.8], abs=1e-5)
    assert state.controls["tau/log_scale"] == pytest.approx(math.log(steered[3]["tau/pos"] / 10))
    scheduled, _ = trained(algorithm(reward, "updates=4", "tau=schedule"))
    assert [row["tau/pos"] for row in scheduled] == pytest.approx([1, 5, 9, 13])  # its end, too


class Listening:
    """A world of one process that keeps what would travel to others."""

    rank, size, first = 0, 1, True

    def __init__(self) -> None:
        self.travelled: list[object] = []

    def gather(self, value: object) -> list[object]:
        self.travelled.append(value)
        return [value]

    def share(self, items):
        return list(items)

    def sum(self, *values: float) -> list[float]:
        return list(values)

    def stop_if_asked(self) -> None:
        pass

    together = nullcontext


@pytest.mark.parametrize(("rounds", "travel"), [(1, False), (2, True)])
def test_tokens_travel_between_devices_only_where_groups_must(
    reward: RewardFunction, rounds: int, travel: bool
) -> None:
    world = Listening()
    made = replace(algorithm(reward, f"batch.max_rounds={rounds}", "updates=1"), world=world)
    train(made, RunState(seed=0), [])
    assert ("sampler_logp" in repr(world.travelled)) == travel
    assert "Reward(" in repr(world.travelled)
