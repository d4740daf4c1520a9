"""Every YAML composes, alone and together; every bad value gets its message."""

from pathlib import Path

import pytest
import yaml
from conftest import REPO
from hydra import compose, initialize_config_dir
from omegaconf.errors import OmegaConfBaseException

from gatepo import build, cli, config, schema
from gatepo.errors import UserError
from gatepo.schema import TrainConfig
from gatepo.validation import remarks

cli.register()

ADDED = ("source", "method")  # chosen with a package or a plus
GROUPS = sorted(folder.name for folder in (REPO / "conf").iterdir() if folder.is_dir() and folder.name not in ADDED)
OPTIONS = [(group, file.stem) for group in GROUPS for file in sorted((REPO / "conf" / group).glob("*.yaml"))]


NEEDED = {("gate", "custom"): ["gate.slope='exp(-tau*abs(x-1))'"]}  # settings that an option has no default for
BENCHMARKS = ("gsm8k_test", "math500", "aime24", "aime25")  # options of data that name no training rows
EVALUATIONS = ("paper/table1",)  # experiments of gatepo.evaluate


def files(folder: str) -> list[str]:
    return sorted(str(f.relative_to(REPO / folder).with_suffix("")) for f in (REPO / folder).rglob("*.yaml"))


def typed(*overrides: str) -> TrainConfig:
    with initialize_config_dir(str(cli.yaml_dir("conf").resolve()), version_base="1.3"):
        return config.typed(compose("train", list(overrides)))


def evaluation_settings(*overrides: str) -> schema.EvaluationConfig:
    with initialize_config_dir(str(cli.yaml_dir("conf").resolve()), version_base="1.3"):
        return config.typed_evaluation(compose("evaluate", list(overrides)))


def test_every_group_of_the_design_is_there() -> None:
    assert set(GROUPS) >= {
        *(
            "gate",
            "tau",
            "ratio",
            "aggregation",
            "advantage",
            "model",
            "data",
            "reward",
            "correction",
            "rollout",
            "engine",
            "tracker",
        )
    }


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_is_known_to_the_code(group: str, option: str) -> None:
    chosen = f"[tiny,{option}]" if option in BENCHMARKS else option
    settings = typed(f"{group}={chosen}", *NEEDED.get((group, option), ()))
    build.objective(settings)
    chosen = getattr(settings, group)
    tables = {
        "ratio": build.RATIOS,
        "aggregation": build.AGGREGATIONS,
        "advantage": build.ADVANTAGES,
        "reward": build.REWARDS,
        "correction": build.CORRECTIONS,
        "rollout": build.ROLLOUTS,
        "engine": build.ENGINES,
    }
    if group in tables:
        assert chosen.name in tables[group]


@pytest.mark.parametrize("sweep", files("sweeps"))
def test_every_sweep_composes_at_every_point(sweep: str) -> None:
    parameters = yaml.safe_load((REPO / "sweeps" / f"{sweep}.yaml").read_text())["hydra"]["sweeper"]["params"]
    for key, values in parameters.items():
        for value in str(values).split(","):
            typed(f"+sweep={sweep}", f"{key}={value}")


@pytest.mark.parametrize("experiment", [name for name in files("experiments") if name not in EVALUATIONS])
@pytest.mark.parametrize("gate", ["clip", "erf"])
def test_every_experiment_composes_under_other_overrides(experiment: str, gate: str) -> None:
    assert typed(f"+experiment={experiment}", f"gate={gate}").gate.name == gate


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
        ("sampling.temperature=0", "sampling.temperature must be a finite number > 0, got 0.0; the paper uses 0.7"),
        ("sampling.max_prompt_length=0", "sampling.max_prompt_length must be >= 1, got 0"),
        ("sampling.max_completion_length=0", "sampling.max_completion_length must be >= 1, got 0"),
        ("data=gsm8k", "data must name at least one evaluation set, got []; type 'data=[gsm8k_test,math500]', say"),
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
    gates = {"grpo": "clip", "sapo": "sigmoid", "erf": "erf", "arctan": "arctan", "softsign": "softsign"}
    for name, gate in gates.items():
        c = typed(f"+experiment=paper/{name}")
        assert (c.gate.name, c.tau.pos, c.tau.neg) == (gate, 10, 12)
        assert (c.sampling.max_prompt_length, c.sampling.max_completion_length) == (1536, 512)
        assert (c.batch.num_generations, c.batch.iterations, c.batch.micro) == (8, 2, 1)
        assert c.batch.prompts * c.batch.num_generations == 8 * 1 * 16  # devices x per-device batch x accumulation
        o = c.optimizer
        assert (o.name, o.lr, o.warmup, o.schedule) == ("adamw", 1e-6, 0, "linear")
        assert (o.beta1, o.beta2, o.eps) == (0.9, 0.999, 1e-8)
        assert (c.rollout.name, c.engine.name, c.engine.zero_stage, c.devices) == ("vllm", "deepspeed", 2, 8)
        assert (c.kl.name, c.anchor, c.correction.name) == ("none", "old", "none")
        assert (o.max_grad_norm, o.weight_decay, c.advantage.eps, c.advantage.ddof) == (1, 0, 1e-4, 1)
        assert (c.ratio.name, c.aggregation.name, c.advantage.name) == ("token", "sequence_mean", "group_zscore")
        assert (c.model.path, c.model.dtype, c.updates) == ("Qwen/Qwen2.5-7B-Instruct", "bfloat16", 5000)
        assert {n: s.weight for n, s in c.data.sources.items()} == {"gsm8k": 1, "deepmath": 1}
        assert (c.data.decontaminate, tuple(c.data.evaluation)) == (True, BENCHMARKS)
        if gate == "clip":
            assert (c.gate.eps_low, c.gate.eps_high) == (0.2, 0.2)


def test_temperature_pairs_are_those_of_the_papers_ablation() -> None:
    pairs = {t: (typed(f"tau={t}").tau.pos, typed(f"tau={t}").tau.neg) for t in ("t1", "t5", "paper", "t13")}
    assert pairs == {"t1": (1, 1.05), "t5": (5, 6), "paper": (10, 12), "t13": (13, 15)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tau.pos=0", "tau.pos must be a finite number > 0, got 0.0; the paper uses 10 (tau=paper)"),
        ("tau.neg=-1", "tau.neg must be a finite number > 0, got -1.0; the paper uses 12 (tau=paper)"),
        ("tau.pos=nan", "tau.pos must be a finite number > 0, got nan"),
        ("tau.pos=inf", "tau.pos must be a finite number > 0, got inf"),
        ("gate=clip gate.eps_low=0", "gate.eps_low must be in (0, 1), got 0.0; the paper uses 0.2"),
        ("gate=clip gate.eps_high=1", "gate.eps_high must be in (0, 1), got 1.0; the paper uses 0.2"),
        (
            "gate=custom",
            "gate=custom must have exactly one of gate.slope and gate.value, got neither; e.g. gate.slope=",
        ),
        ("gate=custom gate.slope=x gate.value=tau", "of gate.slope and gate.value, got both, x and tau; e.g."),
        (
            "+gate.arguments.power=2",
            "gate.arguments must go with gate._target_, got {'power': 2} alone; add gate._target",
        ),
        ("batch.num_generations=1", "batch.num_generations must be >= 2, a group of one has no advantage, got 1"),
        ("batch.prompts=0", "batch.prompts must be >= 1, got 0"),
        ("batch.iterations=0", "batch.iterations must be >= 1, got 0"),
        (
            "batch.micro=48",
            "batch.micro must divide batch.prompts * batch.num_generations = 128, got 48; type batch.micro=16",
        ),
        ("batch.micro=0", "batch.micro must divide batch.prompts * batch.num_generations = 128, got 0"),
        ("sampling.temperature=0", "sampling.temperature must be a finite number > 0, got 0.0"),
        ("sampling.temperature=-1", "sampling.temperature must be a finite number > 0, got -1.0"),
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
        ("+reward.extra.x._target_=a.b", "reward.extra.x.weight must be a finite number, got None; 1 is as much as"),
        ("+reward.extra.x._target_=a.b +reward.extra.x.weight=inf", "reward.extra.x.weight must be a finite number"),
        ("tracker.mode=on", "tracker.mode must be one of offline, online, disabled, got"),
        ("evaluate.every=-1", "evaluate.every must be >= 0, got -1"),
        ("evaluate.temperature=0", "evaluate.temperature must be a finite number > 0, got 0.0"),
        ("data.sources.words.weight=0", "data.sources.words.weight must be a finite number > 0, got 0.0"),
        ("tau.pos=1e40", "tau.pos must be in [1e-6, 1e6], what fp32 can hold the slope at, got 1e+40"),
        ("seed=99999999999999999999999", "seed must be in [0, 2^63), got 99999999999999999999999"),
        ("optimizer.name=sgd", "optimizer.name must be one of adamw, got sgd"),
        ("kl.name=fixed", "kl.name must not be changed alone, got fixed; type kl=fixed"),
        ("kl=fixed kl.name=none", "kl.name must not be changed alone, got none; type kl=none"),
        ("tau.name=matched", "tau.name must not be changed alone, got matched; type tau=matched"),
        ("kl=adaptive kl.target=0", "kl.target must be a finite number > 0, got 0.0"),
        (
            "kl=adaptive batch.iterations=1",
            "batch.iterations must be >= 2 with kl=adaptive",
        ),
        ("tau=target_eur tau.target=1", "tau.target must be in (0, 1), got 1.0"),
        ("tau=target_eur tau.gain=1", "tau.gain must be in (0, 1), got 1.0; 0.5 is the default"),
        ("tau=target_eur tau.low=0", "tau.low must be in [1e-6, 1e6], what fp32 can hold the slope at, got 0.0"),
        (
            "tau=target_eur tau.low=11",
            "tau.pos must be in [tau.low, tau.high] = [11.0, 1000.0], got 10.0; start there",
        ),
        (
            "kl=adaptive kl.high=0.5",
            "kl.coefficient must be in [kl.low, kl.high] = [0.001, 0.5], got 1.0; start there",
        ),
        (
            "tau=target_eur batch.max_deviation=0.1",
            "batch.max_deviation must be null with tau=target_eur, which looks at the last of batch.iterations, got",
        ),
        ("+method=espo kl=adaptive", "batch.max_deviation must be null with kl=adaptive"),
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
            UserError, match=rf"^tau must be a constant with gate={gate}, .* got tau={tau}; type tau=paper"
        ):
            build.objective(typed(f"gate={gate}", f"tau={tau}"))
    build.objective(typed("gate=arctan", f"tau={tau}"))


def test_a_runs_own_config_is_read_back_the_same(tmp_path: Path) -> None:
    for overrides in (
        ("gate=clip", "gate.eps_high=0.28"),
        ("gate=arctan", "tau.pos=3", "data=gsm8k"),
        ("gate=custom", "gate.slope='where(x < 1, 1, 0)'"),
        ("gate=clip", "gate._target_=my.module.MyGate", "+gate.arguments={power: 2.5, side: upper}"),
    ):
        settings = typed(*overrides)
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(config.plain(settings)))
        assert config.read(file) == settings


def test_every_field_has_a_line_under_it() -> None:
    """Meaning, unit and range of each setting stand in the schema; only the nested groups go without."""
    import ast
    import inspect

    for node in ast.parse(inspect.getsource(schema)).body:
        if isinstance(node, ast.ClassDef):
            for field, below in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign) and "Config" not in ast.unparse(field.annotation):
                    documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                    assert documented or field.target.id == "weights", f"{node.name}.{field.target.id}"


def test_every_data_set_on_the_hub_is_pinned_to_a_commit() -> None:
    for file in (REPO / "conf" / "source").glob("*.yaml"):
        entry = yaml.safe_load(file.read_text())
        if not entry["hub"].startswith("tiny:"):
            assert len(str(entry["revision"])) == 40, file.name
            assert int(entry["revision"], 16), file.name


def test_the_prompt_that_asks_for_the_tags_is_one_file() -> None:
    text = (REPO / "conf" / "prompt" / "tags.txt").read_text().strip()
    for name in ("gsm8k", "deepmath", "gsm8k_deepmath", "math_train"):
        assert typed(f"data={name}").data.system == text
    assert evaluation_settings("data=[math500,aime24]").data.system == text
    assert typed("data=gsm8k", "data.system=Think.").data.system == "Think."
    with pytest.raises(OmegaConfBaseException) as caught:
        typed("data=gsm8k", "data.system='${prompt:tagz}'")
    assert "must name one of tags, got tagz; or type the text" in str(cli.one_line(caught.value))


def test_where_data_is_read_from(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "train.jsonl").touch()
    one = typed("data=gsm8k").data
    entry = one.sources["gsm8k"]
    assert build.source(one, "gsm8k", entry, 1).paths is None  # the hub
    one.path = str(tmp_path)
    assert build.source(one, "gsm8k", entry, 1).paths == (str(tmp_path / "gsm8k" / "train.jsonl"),)
    one.path = str(tmp_path / "any.jsonl")
    assert build.source(one, "gsm8k", entry, 1).paths == (str(tmp_path / "any.jsonl"),)
    two = typed("data=gsm8k_deepmath", f"data.path={tmp_path}").data
    with pytest.raises(UserError, match=r"must hold deepmath/\*\.jsonl for the source deepmath"):
        build.source(two, "deepmath", two.sources["deepmath"], 2)
    two.path = str(tmp_path / "any.jsonl")
    with pytest.raises(UserError, match=r"data\.path must be a folder for 2 sources, got"):
        build.source(two, "gsm8k", two.sources["gsm8k"], 2)
    benchmark = evaluation_settings("data=math500", f"data.path={tmp_path / 'any.jsonl'}").data
    assert build.source(benchmark, "math500", benchmark.evaluation["math500"], 1).paths == (
        str(tmp_path / "any.jsonl"),
    )
    with pytest.raises(
        UserError, match=r"for 2 sources, got .*; give each its own with data\.evaluation\.math500\.path="
    ):
        build.source(benchmark, "math500", benchmark.evaluation["math500"], 2)
    entry.path = "mine.jsonl"
    assert build.source(one, "gsm8k", entry, 1).paths == ("mine.jsonl",)
