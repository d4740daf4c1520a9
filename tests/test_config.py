"""Every YAML composes, alone and together; every bad value gets its message."""

from dataclasses import fields, replace
from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from composed import EVALUATIONS, evaluation_settings, files, typed
from conftest import REPO
from omegaconf.errors import OmegaConfBaseException

from gatepo import build, cli, config, presets
from gatepo.errors import UserError
from gatepo.objective import gates
from gatepo.objective.advantage import GroupZScore
from gatepo.objective.aggregation import SequenceMean
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.tau import PAPERS
from gatepo.remarks import remarks
from gatepo.settings import about, groups, name_of, options

OPTIONS = [(group, name) for group in groups() for name in dict.fromkeys(presets.names(group)) if group != "source"]


NEEDED = {
    ("gate", "custom"): ["gate.slope='exp(-tau*abs(x-1))'"],
    ("tau", "constant"): ["tau.pos=1", "tau.neg=2"],
    ("optimizer", "adamw"): ["optimizer.lr=1e-4"],
    ("model", "own"): ["model.path=tiny"],
    ("data", "own"): ["+source@data.sources.words=tiny_words"],
}  # settings that an option has no default for
BENCHMARKS = ("gsm8k_test", "math500", "aime24", "aime25")  # options of data that name no training rows


def test_every_group_of_the_design_is_there() -> None:
    assert set(groups()) == {
        *("gate", "tau", "ratio", "aggregation", "advantage", "correction", "kl", "optimizer", "model", "data"),
        *("source", "reward", "rollout", "engine", "tracker", "model/adapter"),
    }


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_is_known_to_the_code(group: str, option: str) -> None:
    chosen = f"[tiny,{option}]" if option in BENCHMARKS else option
    made = typed(f"{group}={chosen}", *NEEDED.get((group, option), ()))
    build.objective(made)
    assert type(attrgetter(group.replace("/", "."))(made)) in options(group).values()


@pytest.mark.parametrize("sweep", files("sweeps"))
def test_every_sweep_composes_at_every_point(sweep: str) -> None:
    parameters = yaml.safe_load((REPO / "sweeps" / f"{sweep}.yaml").read_text())["hydra"]["sweeper"]["params"]
    for key, values in parameters.items():
        of = key.partition(".")[0]  # what has the setting must be chosen beside it
        chosen = [f"{of}={str(parameters[of]).split(',')[0]}"] if "." in key and of in parameters else []
        for value in str(values).split(","):
            typed(f"+sweep={sweep}", *chosen, f"{key}={value}")


@pytest.mark.parametrize("experiment", [name for name in files("experiments") if name not in EVALUATIONS])
@pytest.mark.parametrize("gate", ["clip", "erf"])
def test_every_experiment_composes_under_other_overrides(experiment: str, gate: str) -> None:
    assert typed(f"+experiment={experiment}", f"gate={gate}").gate == gates.get(gate)


def test_table_1_asks_for_the_papers_benchmarks_beside_its_numbers() -> None:
    c = evaluation_settings("+experiment=paper/table1")
    assert (c.model.path, c.sampling.temperature) == ("Qwen/Qwen2.5-7B-Instruct", 0.7)
    assert tuple(c.data.evaluation) == BENCHMARKS
    assert c.columns == {"GSM8K": ["gsm8k_test"], "MATH500": ["math500"], "AIME": ["aime24", "aime25"]}
    printed = [  # row by row in the order of the paper
        *(80.3, 56.6, 3.3, 80.6, 58.6, 8.3, 82.2, 57.8, 8.3),
        *(82.7, 56.2, 10.0, 82.3, 55.8, 5.0, 82.8, 57.2, 5.0),
    ]
    assert [value for row in c.published.values() for value in row.values()] == printed


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("samples=0", "samples must be >= 1, got 0; 1 is the default"),
        ("limit=0", "limit must be >= 1, got 0; leave it out"),
        ("sampling.temperature=0", "sampling.temperature must be in [0.01, 100], below which vLLM samples at 0.01 and"),
        ("sampling.temperature=1e-30", "alike, got 1e-30; the paper uses 0.7, and 0.01 is all but greedy"),
        ("sampling.max_prompt_length=0", "sampling.max_prompt_length must be >= 1, got 0"),
        ("sampling.max_completion_length=0", "sampling.max_completion_length must be >= 1, got 0"),
        ("data=gsm8k", "data must name at least one evaluation set, got []; type e.g. 'data=[gsm8k_test,math500]'"),
        ("reward.extraction=last", "reward.extraction must be one of tags, boxed, auto, got last"),
        ("rollout=vllm rollout.tensor_parallel_size=2", "rollout.tensor_parallel_size must be 1 in an evaluation"),
        ("+columns.A=[easy,aime24]", "columns.A must pool sets of data (easy, medium, hard), got ['easy', 'aime24']"),
    ],
)
def test_bad_values_of_an_evaluation_name_key_value_rule_and_remedy(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        evaluation_settings(*override.split())
    assert message in str(caught.value)
    assert "; " in str(caught.value)


def test_the_papers_experiments_are_table_2_and_section_5_1() -> None:
    papers = {"grpo": "clip", "sapo": "sigmoid", "erf": "erf", "arctan": "arctan", "softsign": "softsign"}
    for name, gate in papers.items():
        c = typed(f"+experiment=paper/{name}")
        assert (c.gate, c.tau.pos, c.tau.neg) == (gates.get(gate), 10, 12)
        assert (c.sampling.max_prompt_length, c.sampling.max_completion_length) == (1536, 512)
        assert (c.batch.num_generations, c.batch.iterations, c.batch.micro) == (8, 2, 1)
        assert c.batch.prompts * c.batch.num_generations == 8 * 1 * 16  # devices x per-device batch x accumulation
        o = c.optimizer
        assert (name_of(o), o.lr, o.warmup, o.schedule) == ("adamw", 1e-6, 0, "linear")
        assert (o.beta1, o.beta2, o.eps) == (0.9, 0.999, 1e-8)
        assert (name_of(c.rollout), name_of(c.engine), c.engine.zero_stage, c.devices) == ("vllm", "deepspeed", 2, 8)
        assert (name_of(c.kl), c.anchor, name_of(c.correction)) == ("none", "old", "none")
        assert (o.max_grad_norm, o.weight_decay, c.advantage.eps, c.advantage.ddof) == (1, 0, 1e-4, 1)
        assert (c.ratio, c.aggregation, c.advantage) == (TokenRatio(), SequenceMean(), GroupZScore())
        assert (c.model.path, c.model.dtype, c.updates) == ("Qwen/Qwen2.5-7B-Instruct", "bfloat16", 5000)
        assert {n: s.weight for n, s in c.data.sources.items()} == {"gsm8k": 1, "deepmath": 1}
        assert (c.data.decontaminate, tuple(c.data.evaluation)) == (True, BENCHMARKS)
        if gate == "clip":
            assert (c.gate.eps_low, c.gate.eps_high) == (0.2, 0.2)


def test_temperature_pairs_are_those_of_the_papers_ablation() -> None:
    pairs = {t: (typed(f"tau={t}").tau.pos, typed(f"tau={t}").tau.neg) for t in ("t1", "t5", "paper", "t13")}
    assert pairs == {"t1": (1, 1.05), "t5": (5, 6), "paper": PAPERS, "t13": (13, 15)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tau.pos=0", "tau.pos must be in [1e-6, 1e6], what fp32 can hold the slope at, got 0.0; type tau=paper for"),
        ("tau.neg=-1", "tau.neg must be in [1e-6, 1e6], what fp32 can hold the slope at, got -1.0; type tau=paper for"),
        ("tau.pos=nan", "tau.pos must be in [1e-6, 1e6], what fp32 can hold the slope at, got nan"),
        ("tau.pos=inf", "tau.pos must be in [1e-6, 1e6], what fp32 can hold the slope at, got inf"),
        ("gate=clip gate.eps_low=0", "gate.eps_low must be in (0, 1), got 0.0; the paper uses 0.2"),
        ("gate=clip gate.eps_high=1", "gate.eps_high must be in (0, 1), got 1.0; the paper uses 0.2"),
        (
            "gate=custom",
            "gate=custom must have exactly one of gate.slope and gate.value, got neither; e.g. gate.slope=",
        ),
        ("gate=custom gate.slope=x gate.value=tau", "of gate.slope and gate.value, got both, x and tau; e.g."),
        ("+gate.power=2", "gate.power must be a setting, got 2 for one that does not exist here; see --help"),
        ("batch.num_generations=1", "batch.num_generations must be >= 2, a group of one has no advantage, got 1"),
        ("batch.prompts=0", "batch.prompts must be >= 1, got 0"),
        ("batch.iterations=0", "batch.iterations must be >= 1, got 0"),
        ("batch.micro=0", "batch.micro must be >= 1, got 0"),
        ("batch.micro_tokens=0", "batch.micro_tokens must be >= 1, got 0"),
        ("batch.head_mib=-1", "batch.head_mib must be >= 0, got -1"),
        *((f"sampling.temperature={t}", "sampling.temperature must be in [0.01, 100], ") for t in ("0", "-1", "nan")),
        ("sampling.temperature=1e-30", "all tokens are alike, got 1e-30; 1 is the default"),
        ("sampling.temperature=1e30", "all tokens are alike, got 1e+30; 1 is the default"),
        ("sampling.max_prompt_length=0", "sampling.max_prompt_length must be >= 1, got 0"),
        ("sampling.max_completion_length=0", "sampling.max_completion_length must be >= 1, got 0"),
        ("updates=0", "updates must be >= 1, got 0"),
        ("seed=-1", "seed must be in [0, 2^63), got -1"),
        ("devices=0", "devices must be >= 1, got 0"),
        ("devices=3", "batch.prompts must be a multiple of devices = 3, got 16; type batch.prompts=15"),
        ("anchor=new", "anchor must be one of old, rollout, got new"),
        ("engine=deepspeed engine.zero_stage=4", "engine.zero_stage must be one of 0, 1, 2, 3, got 4"),
        (
            "engine=deepspeed engine.persistence_threshold=-1",
            "engine.persistence_threshold must be >= 0, got -1; 100000 is the default",
        ),
        ("engine=deepspeed engine.zero_stage=0 engine.offload_optimizer=true", "needs engine.zero_stage >= 1"),
        ("rollout=vllm rollout.tensor_parallel_size=2", "rollout.tensor_parallel_size must divide devices = 1, got 2"),
        ("rollout=vllm rollout.memory=1.5", "rollout.memory must be in (0, 1), got 1.5"),
        ("rollout.tolerance=0", "rollout.tolerance must be a finite number > 0, got 0"),
        ("correction=mask correction.level=word", "correction.level must be one of token, sequence, got word"),
        ("correction=truncate anchor=rollout", "correction must be none with anchor=rollout"),
        ("evaluate.limit=0", "evaluate.limit must be >= 1, got 0"),
        ("threads=0", "threads must be >= 1, got 0"),
        ("optimizer.lr=0", "optimizer.lr must be a finite number > 0, got 0.0"),
        (
            "optimizer.schedule=sine",
            "optimizer.schedule must be one of linear, constant, cosine, got sine",
        ),
        ("optimizer.warmup=-1", "optimizer.warmup must be >= 0, got -1"),
        ("optimizer.beta2=1", "optimizer.beta2 must be in [0, 1), got 1.0"),
        ("optimizer.eps=0", "optimizer.eps must be a finite number > 0, got 0.0"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay must be >= 0, got -1.0"),
        ("optimizer.max_grad_norm=0", "optimizer.max_grad_norm must be > 0, got 0.0"),
        ("model.dtype=float16", "model.dtype must be one of float32, bfloat16, got float16"),
        ("reward.weights.answer=-1", "reward.weights.answer must be >= 0, got -1.0"),
        ("reward.deadline=0", "reward.deadline must be a finite number > 0, got 0.0"),
        (
            "reward.format=lenient",
            "reward.format must be one of paper, strict, got lenient; the paper gives partial marks",
        ),
        (
            "reward.extraction=all",
            "reward.extraction must be one of tags, boxed, auto, got all; the paper reads the tags",
        ),
        ("reward.workers=0", "reward.workers must be >= 1, got 0; leave it out"),
        ("reward.memory_mib=64", "reward.memory_mib must be >= 512, got 64; 1024 is the default"),
        (
            "+reward.extra.answer._target_=a.b +reward.extra.answer.weight=1",
            "reward.extra.answer must have a name of its own, got answer; those two have reward.weights",
        ),
        ("+reward.extra.x._target_=len +reward.extra.x.weight=1", "reward.extra.x._target_ must be the dotted path"),
        ("+reward.extra.x._target_=a.b +reward.extra.x.weight=inf", "reward.extra.x.weight must be a finite number"),
        ("tracker=wandb tracker.mode=on", "tracker.mode must be one of offline, online, disabled, got"),
        ("evaluate.every=-1", "evaluate.every must be >= 0, got -1"),
        ("evaluate.temperature=0", "alike, got 0.0; the paper uses 0.7, and 0.01 is all but greedy"),
        ("data.sources.words.weight=0", "data.sources.words.weight must be a finite number > 0, got 0.0"),
        ("tau.pos=1e40", "tau.pos must be in [1e-6, 1e6], what fp32 can hold the slope at, got 1e+40"),
        ("seed=99999999999999999999999", "seed must be in [0, 2^63), got 99999999999999999999999"),
        ("optimizer.name=sgd", "optimizer.name must not be changed alone, got sgd; type optimizer=sgd"),
        ("kl.name=fixed", "kl.name must not be changed alone, got fixed; type kl=fixed"),
        ("kl=fixed kl.name=none", "kl.name must not be changed alone, got none; type kl=none"),
        ("tau.name=matched", "tau.name must not be changed alone, got matched; type tau=matched"),
        ("kl=adaptive kl.target=0", "kl.target must be a finite number > 0, got 0.0"),
        (
            "kl=adaptive batch.iterations=1",
            "batch.iterations must be >= 2 with kl=adaptive",
        ),
        ("tau=target_eur tau.target=1", "tau.target must be in (0, 1), got 1.0"),
        ("tau=target_eur batch.iterations=1", "batch.iterations must be >= 2 with tau=target_eur, which looks beyond"),
        ("tau=target_eur tau.low=0", "tau.low must be in [1e-6, 1e6], what fp32 can hold the slope at, got 0.0"),
        (
            "tau=target_eur tau.low=11",
            "tau.pos must be in [tau.low, tau.high] = [11.0, 1000.0], got 10.0; start there",
        ),
        (
            "kl=adaptive kl.high=0.5",
            "kl.coefficient must be in [kl.low, kl.high] = [0.001, 0.5], got 1.0; start there",
        ),
        ("+method=espo kl=adaptive", "batch.max_deviation must be null with kl=adaptive, which looks at the last of"),
        ("tau=schedule tau.end_pos=1e9", "tau.end_pos must be in [1e-6, 1e6]"),
        ("tau=target_eur tau.low=9 tau.high=8", "tau.high must be > tau.low = 9.0, got 8.0"),
        ("tau=matched tau.half_width=0", "tau.half_width must be a finite number > 0, got 0.0"),
        ("tau=schedule tau.shape=steps", "tau.shape must be one of constant, linear, cosine, got steps"),
        (
            "aggregation=geometric_mean ratio=sequence",
            "ratio must be token with aggregation=geometric_mean",
        ),
        (
            "aggregation=geometric_mean correction=mask",
            "correction.level must be sequence with aggregation=geometric_mean, got token",
        ),
        ("gate=dual_clip gate.c=1", "gate.c must be a finite number > 1, got 1.0"),
        ("batch.max_rounds=0", "batch.max_rounds must be >= 1, got 0"),
        ("batch.max_deviation=0", "batch.max_deviation must be null or > 0, got 0.0"),
        ("sampling.overlong=cut", "sampling.overlong must be one of keep, filter, got cut"),
        ("checkpoint.keep=0", "checkpoint.keep must be >= 1, got 0"),
        ("ratio.clamp=89", "ratio.clamp must be in (0, 88], got 89.0"),
        ("advantage.ddof=2", "advantage.ddof must be one of 0, 1, got 2"),
        ("advantage.eps=-1", "advantage.eps must be >= 0, got -1.0"),
        ("advantage=max_rl advantage.eps=-1", "advantage.eps must be >= 0, got -1.0"),
        ("rollout.max_sequences=4", "rollout.max_sequences must be >= batch.num_generations, got 4; type 8 or more"),
    ],
)
def test_bad_values_name_key_value_rule_and_remedy(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        typed(*override.split())
    assert message in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_iteration_is_allowed_but_remarked_upon() -> None:
    assert remarks(typed()) == []
    (line,) = remarks(typed("batch.iterations=1"))
    assert "all gates and temperatures give the same training" in line


def test_a_penalty_without_effect_is_remarked_upon() -> None:
    assert remarks(typed("kl=fixed", "kl.estimator=k2")) == remarks(typed("kl=adaptive", "kl.estimator=k1")) == []
    (line,) = remarks(typed("kl=fixed", "kl.estimator=k1"))
    assert line.startswith("kl.estimator=k1 with kl.reference=initial: its gradient is that of log pi alone")


@pytest.mark.parametrize("gate", ["aspo", "ce_gppo", "gamma"])
def test_a_gate_with_values_below_0_has_no_geometric_mean(gate: str) -> None:
    with pytest.raises(
        UserError, match=rf"^gate must have f\(r\) - f\(1\) \+ 1 > 0 with .*geometric_mean, got gate={gate} "
    ):
        build.objective(typed(f"gate={gate}", "aggregation=geometric_mean"))


@pytest.mark.parametrize("tau", ["schedule", "target_eur"])
def test_a_gate_without_tau_has_none_that_moves(tau: str) -> None:
    for gate in ("clip", "none", "aspo"):
        with pytest.raises(
            UserError,
            match=rf"^tau must stand still with a gate .*, got tau={tau} with gate={gate}; type tau=paper",
        ):
            build.objective(typed(f"gate={gate}", f"tau={tau}"))
    build.objective(typed("gate=arctan", f"tau={tau}"))


def test_a_runs_own_config_is_read_back_the_same(tmp_path: Path) -> None:
    for overrides in (
        ("gate=clip", "gate.eps_high=0.28"),
        ("gate=arctan", "tau.pos=3", "data=gsm8k"),
        ("gate=custom", "gate.slope='where(x < 1, 1, 0)'"),
        ("+method=dapo", "rollout=vllm", "engine=deepspeed", "tracker=wandb", "kl=adaptive"),
    ):
        settings = typed(*overrides)
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(config.plain(settings)))
        assert config.load(file) == settings


def test_the_config_of_a_run_of_version_0_1_0_is_read(tmp_path: Path) -> None:
    """A gate had two keys for classes from outside, and no tracker had W&B's settings."""
    today = config.plain(typed("gate=clip"))
    before = today | {
        "gate": today["gate"] | {"_target_": None, "arguments": {}},
        "tracker": {"name": "none", "project": "gatepo", "mode": "offline"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before))
    assert config.load(tmp_path / "config.yaml") == typed("gate=clip")


def test_an_edited_config_is_held_to_the_same_rules(tmp_path: Path) -> None:
    for key, value, message in (
        ("updates", "many", "updates must be a whole number, got many; 200 is the default"),
        ("devices", 3, "batch.prompts must be a multiple of devices = 3, got 16"),
        ("lr", 1, "lr must be a setting, got 1 for one that does not exist here"),
        ("gate", {"name": "clip", "eps_low": -5.0}, "gate.eps_low must be in (0, 1), got -5.0; the paper uses 0.2"),
        ("gate", {"name": "tanh"}, "gate must be one of sigmoid, erf"),
        ("gate", {"name": ["clip"]}, "gate must be one of sigmoid, erf"),
        ("gate", "clip", "gate must hold settings by name, got clip; --help lists them"),
        ("tracker", None, "tracker must hold settings by name, got None; --help lists them"),
        ("batch", 3, "batch must hold settings by name, got 3; --help lists them"),
        ("reward", 3, "reward must hold settings by name, got 3; --help lists them"),
        ("data", {"sources": 3}, "data.sources must hold settings by name, got 3; --help lists them"),
    ):
        edited = config.plain(typed("gate=clip")) | {key: value}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(edited))
        with pytest.raises(UserError) as caught:
            config.load(tmp_path / "config.yaml")
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "gate must be given, got nothing; type gate=NAME"),
        ("- 1", "a config must hold settings by name, got [1]; --help lists them"),
        ("a: [1", "config.yaml must be the YAML of a run's settings, got while parsing a flow sequence"),
    ],
)
def test_a_config_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        config.load(tmp_path / "config.yaml")
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(message)
    assert "\n" not in str(caught.value)


def test_python_is_held_to_the_same_rules_in_the_same_words() -> None:
    with pytest.raises(UserError) as typed_in:
        typed("gate=clip", "gate.eps_low=-5.0")
    with pytest.raises(UserError) as made:
        gates.Clip(eps_low=-5.0)
    assert str(made.value) == str(typed_in.value) == "gate.eps_low must be in (0, 1), got -5.0; the paper uses 0.2"


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in groups() for name in options(group)])
def test_every_setting_says_what_it_means_and_every_option_what_it_is(group: str, name: str) -> None:
    kind = options(group)[name]
    assert "." in (kind.__doc__ or "")
    for field in fields(kind):
        words = about(field).words
        assert words.endswith("."), field
        symbols = ("beta", "f'(", "f(x", "log", "r_", "tau", "transformers")
        assert words[0].isupper() or words.startswith(symbols), field


def test_the_reference_is_what_the_options_say() -> None:
    """conf/README.md; made anew by ``python -m gatepo.reference > conf/README.md``."""
    from gatepo.reference import markdown

    assert (REPO / "conf" / "README.md").read_text() == markdown()


def test_every_data_set_on_the_hub_is_pinned_to_a_commit() -> None:
    for file in (REPO / "conf" / "source").glob("*.yaml"):
        entry = yaml.safe_load(file.read_text())
        if not entry.get("hub", "tiny:").startswith("tiny:"):  # one's own rows have none
            assert len(str(entry["revision"])) == 40, file.name
            assert int(entry["revision"], 16), file.name


OTHER = "model.path=Qwen/Qwen2.5-0.5B-Instruct"


def test_the_prompt_that_asks_for_the_tags_is_one_file() -> None:
    text = (REPO / "conf" / "prompt" / "tags.txt").read_text().strip()
    for name in ("gsm8k", "deepmath", "gsm8k_deepmath", "math_train"):
        assert typed(f"data={name}", OTHER).data.system == text
        assert typed(f"data={name}").data.system is None  # of the embedded model, which was made without
    assert evaluation_settings("data=[math500,aime24]", OTHER).data.system == text
    assert typed("data=gsm8k", "data.system=Think.").data.system == "Think."
    with pytest.raises(OmegaConfBaseException) as caught:
        typed("data=gsm8k", "data.system='${prompt:tagz}'")
    assert "must name one of tags, got tagz; or type the text" in str(cli.one_line(caught.value))


def test_where_data_is_read_from(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "train.jsonl").touch()
    one = typed("data=gsm8k").data
    assert one.paths("sources", "gsm8k") is None
    assert one.sources["gsm8k"].is_remote(None)
    assert replace(one, path=str(tmp_path)).paths("sources", "gsm8k") == (str(tmp_path / "gsm8k" / "train.jsonl"),)
    assert replace(one, path=str(tmp_path / "any.jsonl")).paths("sources", "gsm8k") == (str(tmp_path / "any.jsonl"),)
    two = typed("data=gsm8k_deepmath", f"data.path={tmp_path}").data
    with pytest.raises(UserError, match=r"must hold deepmath/\*\.jsonl for the source deepmath"):
        two.paths("sources", "deepmath")
    with pytest.raises(UserError, match=r"data\.path must be a folder for 2 sources, got"):
        replace(two, path=str(tmp_path / "any.jsonl")).paths("sources", "gsm8k")
    with pytest.raises(UserError, match=r"must hold words\*\.jsonl for the source words; give data\.sources\.words\."):
        typed(f"data.path={tmp_path}").data.paths("sources", "words")
    benchmark = evaluation_settings("data=math500", f"data.path={tmp_path / 'any.jsonl'}").data
    assert benchmark.paths("evaluation", "math500") == (str(tmp_path / "any.jsonl"),)
    mixed = replace(benchmark, sources=one.sources)
    with pytest.raises(
        UserError, match=r"for 2 sources, got .*; give each its own with data\.evaluation\.math500\.path="
    ):
        mixed.paths("evaluation", "math500")
    own = replace(one, path="elsewhere", sources={"gsm8k": replace(one.sources["gsm8k"], path="mine.jsonl")})
    assert own.paths("sources", "gsm8k") is None
    assert own.sources["gsm8k"].place(None) == "mine.jsonl"


@pytest.mark.parametrize(
    ("words", "kept", "wanted"),
    [
        (["tau.pos=5"], "tau.neg stays 12", "6"),
        (["tau.neg=6"], "tau.pos stays 10", "5"),
        (["gate=erf", "tau.pos=1"], "tau.neg stays 12", "1.2"),
    ],
)
def test_one_temperature_alone_says_what_the_other_is(words: list[str], kept: str, wanted: str) -> None:
    (line,) = remarks(typed(*words), words)
    assert f"alone: {kept}; in the ratio of the paper's best pair it would be {wanted}, and tau=t1" in line


@pytest.mark.parametrize(
    "words", [["tau.pos=10"], ["tau.pos=5", "tau.neg=6"], ["tau=t5", "tau.pos=4"], ["tau=matched"], []]
)
def test_a_pair_that_is_meant_is_no_remark(words: list[str]) -> None:
    assert remarks(typed(*words), words) == []
