"""``python -m gatepo.evaluate``, on the embedded model."""

import json
import shutil
from pathlib import Path
from statistics import median

import pytest
from command import gatepo
from composed import evaluation_settings

from gatepo import checkpoint
from gatepo.errors import UserError
from gatepo.evaluate.folder import claim, finished
from gatepo.evaluate.generations import Problem, Sample, finished_problems
from gatepo.evaluate.grading import grade_missing
from gatepo.evaluate.results import compare, majority, result
from gatepo.evaluate.statistics import clustered, pass_at
from gatepo.evaluate.subject import subject
from gatepo.state import RunState
from gatepo.world import World

SMALL = ("limit=12", "samples=4", "sampling.max_prompt_length=128", "sampling.max_completion_length=64")


def evaluated(out: Path, *arguments: str) -> tuple[dict, str]:
    done = gatepo("evaluate", *arguments, f"out={out}")
    assert done.returncode == 0, done.stderr
    return json.loads((out / "evaluation.json").read_text()), done.stdout


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model on its three sets, two of them pooled."""
    out = tmp_path_factory.mktemp("evaluate") / "untrained"
    document, printed = evaluated(out, *SMALL, "+columns.both=[easy,hard]", "+published.Theirs.both=33.3")
    assert set(document["sets"]) == {"easy", "medium", "hard", "both"}
    for words in ("12 x 4", "24 x 4", "pass@4", "majority", "full format", "Theirs (published)", "33.3"):
        assert words in printed
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with a checkpoint of its last update."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    small = (
        "updates=2",
        "batch.prompts=4",
        "threads=1",
        "evaluate.limit=1",
        "checkpoint.every=2",
        "optimizer.lr=0.01",
    )
    done = gatepo("train", *small, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def last_checkpoint(run: Path) -> Path:
    return checkpoint.found(run)[-1]


def test_every_figure_follows_from_the_generations_that_were_kept(untrained: Path) -> None:
    document = json.loads((untrained / "evaluation.json").read_text())
    lines = [json.loads(line) for line in (untrained / "generations.jsonl").read_text().splitlines()]
    assert [(line["set"], line["index"]) for line in lines] == [
        (name, index) for name in ("easy", "medium", "hard") for index in range(12)
    ]
    pooled = {name: [name] for name in ("easy", "medium", "hard")} | {"both": ["easy", "hard"]}
    assert set(document["sets"]) == set(pooled)
    for name, members in pooled.items():
        samples = [line["samples"] for line in lines if line["set"] in members]
        count, every = len(samples) * 4, [sample for row in samples for sample in row]
        right_P = [sum(sample["right"] for sample in row) for row in samples]
        figures = document["sets"][name]
        assert figures["accuracy"]["value"] == pytest.approx(sum(right_P) / count)
        assert figures["pass_at"]["2"] == pytest.approx(sum(pass_at(2, right, 4) for right in right_P) / len(samples))
        assert figures["mean_length"] == pytest.approx(sum(s["tokens"] for s in every) / count)
        assert figures["median_length"] == median(s["tokens"] for s in every)
        assert figures["format"]["value"] == pytest.approx(sum(s["format"] == 1 for s in every) / count)
        assert figures["finished"] == pytest.approx(sum(s["finished"] for s in every) / count)
        assert (figures["problems"], figures["samples"], figures["timed_out"]) == (len(samples), 4, 0)
        votes = [majority(Sample(**sample) for sample in row) for row in samples]
        assert figures["majority"] == pytest.approx(sum(votes) / len(votes))
        assert figures["accuracy"]["low"] < figures["accuracy"]["value"] < figures["accuracy"]["high"]
        assert all(s["right"] <= (s["answer"] is not None) for row in samples for s in row)
    assert document["effort"]["completions"] == 3 * 12 * 4
    assert document["sets"]["easy"]["accuracy"]["value"] > 0.2  # it does solve some


def test_what_a_short_evaluation_seldom_has_is_counted_too() -> None:
    """By hand: 3 of 4 completions ended, 1 ran out of time, one partial format, lengths 1, 2, 3 and 10."""
    samples = tuple(
        Sample(text="", answer=a, right=r, format=f, tokens=t, finished=e, timed_out=late)
        for a, r, f, t, e, late in (
            ("1", True, 1.0, 1, True, False),
            ("2", False, 0.5, 2, True, True),
            (None, False, 0.0, 10, False, False),
            ("2.0", False, 1.0, 3, True, False),
        )
    )
    got = result([Problem(set="s", index=0, question="", gold="1", samples=samples)])
    assert (got.score.value, got.pass_at, got.majority) == (0.25, {1: 0.25, 2: 0.5, 4: 1.0}, 0.0)
    assert (got.format.value, got.finished, got.timed_out) == (0.5, 0.75, 1)
    assert (got.mean_length, got.median_length) == (4, 2.5)


def test_an_evaluation_that_was_cut_off_goes_on_and_ends_the_same(untrained: Path, tmp_path: Path) -> None:
    """Cut off in the middle of a line; what is finished is not sampled again, the rest comes out to the letter."""
    lines = (untrained / "generations.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "generations.jsonl").write_bytes(b"".join(lines[:20]) + lines[20][:100])
    the_same = subject(evaluation_settings(*SMALL))
    sets, effort = grade_missing(the_same, tmp_path)
    assert effort["completions"] == 16 * 4
    assert [problem for problems in sets.values() for problem in problems] == list(
        finished_problems(untrained).values()
    )
    assert finished_problems(tmp_path) == finished_problems(untrained)
    _, effort = grade_missing(the_same, tmp_path)
    assert effort["completions"] == 0


def test_a_run_and_its_last_checkpoint_are_the_same_policy(run: Path, untrained: Path, tmp_path: Path) -> None:
    """And not the untrained one; the comparison is that of the two evaluations' generations."""
    small = ("limit=12", "samples=4")
    document, printed = evaluated(
        tmp_path / "run", f"run={run}", *small, f"against={untrained}", f"beside=[{untrained}]"
    )
    sets, _ = grade_missing(
        subject(evaluation_settings(f"run={last_checkpoint(run)}", *small)), tmp_path / "checkpoint"
    )
    ours, theirs = finished(tmp_path / "run"), finished(untrained)
    assert sets == ours.sets
    assert ours.sets != theirs.sets
    for name in ("easy", "medium", "hard"):
        found = compare(ours.sets[name], theirs.sets[name])
        assert document["against"]["sets"][name]["p_value"] == found.p_value
        assert document["against"]["sets"][name]["problems"] == 12
    assert "against tiny" in printed
    shown = next(line for line in printed.splitlines() if line.startswith(str(untrained)))
    for name in ("easy", "medium", "hard"):
        accuracy = document["beside"][str(untrained)][name]
        assert accuracy["value"] == clustered([[s.right for s in p.samples] for p in theirs.sets[name]]).value
        assert f"{100 * accuracy['value']:.1f} [" in shown


def test_vllm_samples_what_transformers_does(run: Path, tmp_path: Path) -> None:
    """A checkpoint's weights, at vLLM's least temperature: hardly any first words are left to chance."""
    pytest.importorskip("vllm", reason="vllm is not installed; make test installs it")
    first_words = ("limit=20", "sampling.temperature=0.01", "sampling.max_completion_length=8")
    asked = (f"run={last_checkpoint(run)}", *first_words)
    evaluated(tmp_path / "vllm", *asked, "rollout=vllm")
    sets, _ = grade_missing(subject(evaluation_settings(*asked)), tmp_path / "transformers")
    untrained, _ = grade_missing(
        subject(evaluation_settings("sampling.max_prompt_length=128", *first_words)), tmp_path / "untrained"
    )
    one, other, before = (
        [problem.samples[0].text for problems in found.values() for problem in problems]
        for found in (finished(tmp_path / "vllm").sets, sets, untrained)
    )
    agree = [sum(a == b for a, b in zip(one, texts, strict=True)) for texts in (other, before)]
    assert agree[0] >= 50 > agree[1], agree  # of 60; it is the checkpoint's policy, not the untrained one


def test_a_folder_holds_one_evaluation(untrained: Path, tmp_path: Path) -> None:
    for argument, words in (
        ("sampling.temperature=1", "one with sampling.temperature=0.7 in place of 1.0; choose another folder"),
        ("samples=2", "one with samples=4 in place of 2"),
    ):
        with pytest.raises(UserError) as caught:
            claim(untrained, subject(evaluation_settings(*SMALL, argument)).identity())
        assert words in str(caught.value)
    before = subject(evaluation_settings(*SMALL)).identity()
    claim(untrained, before | {"model": "another path to the same files"})
    shutil.copy(untrained / "generations.jsonl", tmp_path)
    with pytest.raises(UserError, match=r"must hold the same problems, got another easy 0 in generations\.jsonl"):
        grade_missing(subject(evaluation_settings(*SMALL, "data.evaluation.easy.hub=tiny:hard")), tmp_path)


def test_a_model_is_known_by_its_content(run: Path, tmp_path: Path) -> None:
    """Other weights in the same place are another model; the same ones in another place are not."""
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        shutil.copytree(run, place)
    part = last_checkpoint(run).relative_to(run)
    for name, asked in (("run", Path()), ("checkpoint", part)):
        (tmp_path / name).mkdir()
        claim(tmp_path / name, subject(evaluation_settings(f"run={here / asked}", *SMALL)).identity())
        claim(tmp_path / name, subject(evaluation_settings(f"run={there / asked}", *SMALL)).identity())
    weights = here / "model" / "model.safetensors"
    altered = bytearray(weights.read_bytes())
    altered[-1] ^= 1
    weights.write_bytes(altered)
    shutil.rmtree(here / part)
    shutil.copytree(checkpoint.save(tmp_path, Bare(), RunState(seed=1), World(), None), here / part)
    for name, asked in (("run", Path()), ("checkpoint", part)):
        with pytest.raises(UserError, match=r"must hold this same evaluation, got one with other weights"):
            claim(tmp_path / name, subject(evaluation_settings(f"run={here / asked}", *SMALL)).identity())


class Bare:
    """An engine of another checkpoint."""

    def save(self, path: Path) -> None:
        path.write_text("other weights")


def test_what_cannot_be_evaluated_is_said(run: Path, tmp_path: Path) -> None:
    interrupted = tmp_path / "interrupted"
    interrupted.mkdir()
    shutil.copy(run / "config.yaml", interrupted)
    for folder, words in (
        ("nowhere", "run must be the folder of a run, got nowhere, which has no config.yaml"),
        (str(interrupted), "run must be a finished run, got"),
        (str(run / "checkpoints" / "update-000001"), "run must be a whole checkpoint, got"),
    ):
        with pytest.raises(UserError) as caught:
            subject(evaluation_settings(f"run={folder}"))
        assert words in str(caught.value)
    damaged = tmp_path / "run" / "checkpoints" / "update-000002"
    shutil.copytree(last_checkpoint(run), damaged)
    shutil.copy(run / "config.yaml", tmp_path / "run")
    (damaged / "checkpoint.json").write_text("")
    with pytest.raises(
        UserError, match=r"checkpoint\.json must be a checkpoint's manifest, got a file that is no whole"
    ):
        subject(evaluation_settings(f"run={damaged}"))
    with pytest.raises(UserError, match="must be folders of finished evaluations, got"):
        finished(run)


def test_a_runs_prompt_and_lengths_go_with_it(run: Path) -> None:
    found = subject(evaluation_settings(f"run={run}", "data=math500", "sampling.max_completion_length=99"))
    assert (found.data.system, list(found.data.evaluation)) == (None, ["math500"])  # as the run was trained
    assert (found.max_prompt_length, found.sampling.max_completion_length) == (128, 99)
    alone = subject(evaluation_settings("data=math500", "model.path=Qwen/Qwen2.5-0.5B-Instruct"))
    assert "<think>" in str(alone.data.system)
    assert (alone.max_prompt_length, alone.sampling.max_completion_length) == (1536, 512)  # Table 2
