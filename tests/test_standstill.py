"""A run in which nothing is learned says so: after its first rollout batches, and at its end."""

from pathlib import Path

import pytest
from command import gatepo

from gatepo.tracking.standstill import FirstBatches, standstill

TINY = ("updates=8", "batch.prompts=2", "batch.num_generations=4", "batch.micro=8", "threads=1", "evaluate.limit=1")
LEARNS = {"frac_reward_zero_std": 0.5, "grad_norm": 0.1, "completions/clipped_ratio": 0.2, "reward": 1.0}
EQUAL, STILL, CUT = {"frac_reward_zero_std": 1.0}, {"grad_norm": 0.0}, {"completions/clipped_ratio": 1.0}


@pytest.mark.parametrize(
    ("signs", "wanted"),
    [
        ({}, []),
        (EQUAL | STILL, ["nothing is learned: the gradient was 0 in 10 of 10 updates, since the rewards within every"]),
        (STILL, ["nothing is learned: the gradient was 0 in 10 of 10 updates, since no token has both an advantage"]),
        (
            STILL | {"eur": 1.0},
            ["nothing is learned: the gradient was 0 in 10 of 10 updates, though eur is 1; autograd"],
        ),
        (EQUAL, ["the rewards within every group were equal in 10 of 10 updates: no group says which answer is"]),
        (CUT, ["every completion was cut in 10 of 10 updates; raise sampling.max_completion_length"]),
        (
            {"kl/sampling": 1.5},
            ["kl/sampling was above 1 nats a token in 10 of 10 updates, 1.5 at most: the"],
        ),
        ({"kl": 2e6}, ["kl was above 10 nats a token in 10 of 10 updates, 2e+06 at most: the policy runs away"]),
        (EQUAL | STILL | CUT, ["nothing is learned: the gradient was 0", "every completion was cut in 10 of 10"]),
    ],
)
def test_each_sign_names_its_cause_and_a_remedy(signs: dict[str, float], wanted: list[str]) -> None:
    found = standstill([LEARNS | signs] * 10)
    assert len(found) == len(wanted)
    for line, start in zip(found, wanted, strict=True):
        assert line.startswith(start)
        assert "; " in line
        assert "\n" not in line


def test_a_policy_that_ran_away_in_one_update_of_ten_is_no_sign() -> None:
    far = LEARNS | {"kl/sampling": 5.0}
    assert standstill([far] + [LEARNS] * 9) == []
    assert len(standstill([far, far] + [LEARNS] * 8)) == 1


def test_one_update_of_ten_may_differ() -> None:
    still = LEARNS | EQUAL | STILL
    assert "9 of 10 updates" in standstill([still] * 9 + [LEARNS])[0]
    assert standstill([still] * 8 + [LEARNS] * 2) == []
    assert standstill([]) == []


def test_the_first_three_batches_are_waited_for_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for done, wanted in ((0, 5), (1, 6)):  # a new run, and one that goes on from between two iterations
        caplog.clear()
        look = FirstBatches()
        for update in range(done + 1, 14):
            look.log(update, LEARNS | EQUAL | STILL | {f"eur/iteration_{2 - update % 2}": 1.0})
            assert len(caplog.messages) == (update - done >= wanted), (done, update)
        assert f"{wanted} of {wanted} updates" in caplog.messages[0]


def test_a_run_whose_reward_is_constant_says_so_twice(tmp_path: Path) -> None:
    (tmp_path / "level.py").write_text("def level(prompt, completion):\n    return 1.3\n")
    done = gatepo("train", *TINY, "reward._target_=level.level", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in (tmp_path / "run" / "train.log").read_text().splitlines() if "nothing is learned" in line]
    assert len(said) == 2
    for line, updates in zip(said, ("5 of 5", "8 of 8"), strict=True):
        assert f"the gradient was 0 in {updates} updates, since the rewards within every group were equal" in line
        assert "(mean reward 1.3); take problems that are neither always nor never solved" in line


def test_a_run_whose_completions_are_all_cut_says_so_and_one_that_learns_says_nothing(tmp_path: Path) -> None:
    for limit, said in ((2, 2), (40, 0)):
        folder = tmp_path / str(limit)
        done = gatepo("train", *TINY, f"sampling.max_completion_length={limit}", f"hydra.run.dir={folder}")
        assert done.returncode == 0, done.stderr
        log = (folder / "train.log").read_text()
        assert log.count("every completion was cut in") == said
        assert log.count("raise sampling.max_completion_length") == said
        assert ("nothing is learned" in log) <= (limit == 2)


def test_a_multirun_says_it_of_its_jobs_and_remarks_before_them(tmp_path: Path) -> None:
    (tmp_path / "level.py").write_text("def level(prompt, completion):\n    return 1.3\n")
    words = (*TINY, "tau.pos=5,10", "reward._target_=level.level", f"hydra.sweep.dir={tmp_path / 'runs'}")
    done = gatepo("train", "-m", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    remark, *_ = said = [line for line in done.stderr.splitlines() if " alone: " in line or line.startswith("#")]
    assert remark.startswith("tau.pos=5 alone: tau.neg stays 12; in the ratio of the paper's best pair it would be 6,")
    for line, job in zip(said[1:], (0, 1), strict=True):
        assert "8/8" in line and ", finished; nothing is learned: the gradient was 0 in 8 of 8 updates" in line
        assert line.endswith(str(tmp_path / "runs" / str(job))) or line.endswith(f"runs/{job}")
