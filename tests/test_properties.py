"""The paper's properties (i) to (iv) of any gate, proven or checked, and the table that shows them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib.image
import pytest
import torch
from command import gatepo
from test_gates import SMOOTH, TAUS, f64, random_ratios
from torch import Tensor

from gatepo.errors import UserError
from gatepo.formulas.expression import parse
from gatepo.formulas.gate import FormulaGate
from gatepo.formulas.lower import lower
from gatepo.formulas.proofs import properties
from gatepo.formulas.properties import broken_numbers, broken_properties, examine
from gatepo.gates.report import report
from gatepo.gates.rows import PAPER, chosen, of_figure, rows
from gatepo.objective import gates
from gatepo.objective.gates import Formulated, Gate
from gatepo.schema import GatesConfig

lowered = cache(lambda text: lower(parse(text)))
SIDES = [(name, sign) for name in gates.names() for sign in (True, False)]


@dataclass(frozen=True)
class Formula:
    """A slope as text, without derivations: the properties look at nothing else."""

    text: str

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        raise NotImplementedError

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return lowered(self.text)(ratio, tau)

    def half_width(self, tau: float) -> float:
        return 1 / tau


def verdicts(gate: Gate, tau: float = 10.0, positive: bool = True) -> dict[str, str]:
    return {finding.number: str(finding) for finding in examine(gate, tau, positive).findings}


@pytest.mark.parametrize(("name", "positive"), SIDES)
def test_a_built_in_gate_is_the_formula_that_it_states(name: str, positive: bool) -> None:
    gate, ratio = gates.get(name), random_ratios()
    if not isinstance(gate, Formulated):
        pytest.skip(f"{name} states no formula")
    formula = gate.formula(positive)
    for tau in TAUS:
        slope = lower(parse(formula.slope))(ratio, f64(tau))
        torch.testing.assert_close(gate.slope(ratio, f64(tau), torch.tensor(positive)), slope, rtol=1e-9, atol=1e-15)
        if formula.value is not None:
            value = lower(parse(formula.value))(ratio, f64(tau))
            torch.testing.assert_close(gate.value(ratio, f64(tau), torch.tensor(positive)), value)


@pytest.mark.parametrize("name", SMOOTH)
def test_every_gate_of_the_paper_has_all_four_properties_by_proof(name: str) -> None:
    gate = gates.get(name)
    proof = properties(gate.formula(True).slope)
    found = examine(gate, 10.0, True, proof)
    assert [str(finding) for finding in found.findings] == ["proven"] * 4
    assert examine(gate, 10.0, True).decay == found.decay  # from numbers as from limits
    assert set(verdicts(gate).values()) == {"checked"}
    assert broken_properties(gate, 10.0, 12.0) == []


def test_decay_classes_are_those_of_the_papers_section_4() -> None:
    expected = {
        **{"sigmoid": "exponential", "erf": "Gaussian", "none": "none", "clip": "compact"},
        **{"arctan": "polynomial of order 2", "softsign": "polynomial of order 3"},
    }
    for name, decay in expected.items():
        for tau in (1.0, 10.0):
            assert examine(gates.get(name), tau, True).decay == decay, name


@pytest.mark.parametrize(
    ("text", "decay"),
    [
        ("exp(-(tau*(x-1))**4)", "exp(-x^4)"),
        ("exp(-(tau*log(max(x, 0.01)))**2)", "faster than any power"),
        ("max(0, 1 - tau**2*(x-1)**2)", "compact"),
        ("min(1, 1.2/x)", "polynomial of order 1"),
    ],
)
def test_decay_of_other_tails(text: str, decay: str) -> None:
    assert examine(Formula(text), 10.0, True).decay == decay
    assert examine(Formula(text), 10.0, True, properties(text)).decay == decay


def test_the_clip_is_no_gate_in_the_papers_sense() -> None:
    clip = gates.get("clip")
    assert verdicts(clip) == {
        **{"i": "checked: broken", "ii": "checked, not strict"},
        **{"iii": "checked, not strict", "iv": "checked"},
    }
    assert verdicts(clip, positive=False)["iv"] == "checked: broken"
    assert broken_numbers(clip, 10.0, 12.0) == ["i", "iv"]
    lines = broken_properties(clip, 10.0, 12.0)
    assert len(lines) == 3
    assert lines[0].startswith(
        "where A > 0 the gate breaks property (i) of the paper: f' jumps from 1 to 0 at r = 1.2; a token's gradient"
    )
    assert "where A <= 0 the gate breaks property (i) of the paper: f' jumps from 0 to 1 at r = 0.8" in lines[1]
    assert "where A <= 0 the gate breaks property (iv) of the paper: r f'(r) is 1e+12 at r = 1e12" in lines[2]


@pytest.mark.parametrize(
    ("text", "number", "witness"),
    [
        ("where(x < 1.5, 1/(1+tau**2*(x-1)**2), 0)", "i", "f' jumps from 0.03846 to 0 at r = 1.5"),
        ("where(x < 1.50001, 1, 0.9998)", "i", "f' jumps from 1 to 0.9998 at r = 1.50001"),
        ("1/x", "i", None),
        ("1/x", "ii", "f' is 1e+09 at r = 1e-09"),
        ("0.9/(1+tau**2*(x-1)**2)", "ii", "f'(1) = 0.9"),
        ("2/(1+tau**2*(x-1)**2) - 1/(1+tau**2*(x-1)**2)**2", "ii", None),
        ("exp(-(tau*(x-1))**2) + 0.25*exp(-(tau*(x-2))**2)", "iii", "f' rises from"),
        ("exp(-(tau*(x-1))**2) + 2*exp(-(tau*(x-2))**2)", "ii", "f' is 2 at r = 2"),
        ("min(1, 1.2/x)", "iv", "r f'(r) is 1.2 at r = 1e12"),
        ("1/(1+abs(x-1))**1.1", "iv", None),
    ],
)
def test_a_broken_property_is_seen_where_it_breaks(text: str, number: str, witness: str | None) -> None:
    """``None``: this property holds, and is not blamed for another."""
    found = next(f for f in examine(Formula(text), 10.0, True).findings if f.number == number)
    assert found.holds == (witness is None)
    assert found.witness.startswith(witness or "")


@pytest.mark.parametrize(
    "text", ["1/x", "1 + atan(x-1)", "min(1, 1.2/x)", "0.9/(1+tau**2*(x-1)**2)", "where(x < 1.5, 1, 0)"]
)
def test_no_proof_contradicts_a_check(text: str) -> None:
    proof = properties(text)
    for finding in examine(Formula(text), 10.0, True).findings:
        assert proof[finding.number] in (None, finding.holds)


def test_level_stretches_are_told_from_rounding() -> None:
    strict = {text: verdicts(Formula(text))["iii"] for text in ("exp(-(tau*(x-1))**4)", "1 - tanh(tau*(x-1))**2")}
    assert set(strict.values()) == {"checked"}
    assert verdicts(Formula("min(1, 1.2/x)"))["iii"] == "checked, not strict"
    assert verdicts(Formula("max(0, 1 - tau**2*(x-1)**2)"))["iii"] == "checked"  # level only where f' = 0


def test_the_table_says_where_eur_is_not_the_share_that_passes() -> None:
    gate = gates.get("erf")
    found = rows(chosen(GatesConfig(gate=gate, gates=["erf", "ce_gppo", "gamma"])), 10.0)
    beyond = {row.name: row.beyond for row in found if row.beyond is not None}
    # slope 0.6 / r below 0.8; r exp(3 (1 - r)), which is 1 at 1 and at 0.0595
    assert beyond.keys() == {"ce_gppo, A <= 0", "gamma, A > 0"}
    assert beyond["ce_gppo, A <= 0"][1] == pytest.approx(0.6, rel=1e-3)
    assert beyond["gamma, A > 0"] == pytest.approx((0.0595, 1), rel=1e-3)
    lines = report(found, 10.0).splitlines()
    assert any(line.startswith("ce_gppo, A <= 0 ") and "differs: r < 0.6 " in line for line in lines)
    assert any(line.startswith("erf ") and "is eur" in line for line in lines)


def test_the_table_says_what_is_known_of_each_gate() -> None:
    settings = GatesConfig(gate=gates.get("erf"), gates=["erf", "clip"])
    lines = report(rows(chosen(settings), 5.0), 5.0).splitlines()
    assert [line.split() for line in lines if line.startswith("erf")] == [
        ["erf", *["1", "+", "sqrt(pi/2)/tau", "*", "erf(tau*(x-1)/sqrt(2))"], "exp(-tau**2*(x-1)**2/2)"],
        ["erf", "Gaussian", "1", "1.177/tau", "0.2355", "is", "eur", *["proven"] * 4],
    ]
    negative = next(line for line in lines if line.startswith("clip, A <= 0") and "none" in line)
    assert negative.split()[4:] == [
        *("none", "1", "0.2", "0.2", "is", "eur", "checked:", "broken"),
        *("proven,", "not", "strict", "checked,", "not", "strict", "proven:", "broken"),
    ]
    assert any(line.startswith("clip, A <= 0 breaks (iv): r f'(r) -> oo as r -> oo; tokens of") for line in lines)


def test_a_gate_of_ones_own_is_shown_beside_the_others() -> None:
    custom = FormulaGate(slope_text="1/(1+abs(tau*(x-1))**3)")
    shown = chosen(GatesConfig(gate=custom))
    assert list(shown) == [*PAPER, "custom"]  # all of the library would bury it
    assert list(chosen(GatesConfig(gate=custom, gates=["gamma"]))) == ["gamma", "custom"]
    assert list(chosen(GatesConfig(gate=gates.get("erf")))) == gates.names()
    assert list(of_figure(GatesConfig(gate=custom), shown)) == [
        "clip",
        "sigmoid",
        "erf",
        "arctan",
        "softsign",
        "custom",
    ]
    (row,) = rows({"custom": shown["custom"]}, 10.0)
    assert (row.at_one, row.half_width, row.half_width_here) == ("1", "1/tau", pytest.approx(0.1))
    assert row.examination.decay == "polynomial of order 3"
    assert row.formula is not None
    assert row.formula.value is None
    with pytest.raises(UserError, match=r"gates must be among sigmoid, erf, .*, got tanh; e\.g\. gates=\[clip,erf\]"):
        chosen(GatesConfig(gate=custom, gates=["tanh"]))


def test_a_family_with_settings_of_its_own_is_shown_whatever_gates_names() -> None:
    wide = gates.Clip(eps_high=0.5)
    assert list(chosen(GatesConfig(gate=wide, gates=["erf"]))) == ["erf", "clip"]
    assert list(chosen(GatesConfig(gate=gates.get("erf"), gates=["arctan"]))) == ["arctan"]
    with pytest.raises(UserError, match=r"^gates must name a gate, got \[\]; e\.g\. gates=\[clip,erf\]"):
        chosen(GatesConfig(gate=wide, gates=[]))


@dataclass(frozen=True)
class Arctan:
    """A gate from outside, which states no formula."""

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return 1 + torch.atan(tau * (ratio - 1)) / tau

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return 1 / (1 + (tau * (ratio - 1)) ** 2)

    def half_width(self, tau: float) -> float:
        return 1 / tau


def test_a_gate_without_a_formula_is_checked_by_numbers_alone() -> None:
    (row,) = found = rows({"mine": Arctan()}, 10.0)
    assert row.formula is None
    assert [str(finding) for finding in row.examination.findings] == ["checked"] * 4
    assert "mine  states no formula" in report(found, 10.0)


def test_the_command_prints_the_table_and_draws_figure_1(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "one.png"
    done = gatepo(
        *("gates", "gates=[clip,sigmoid]", "plot=true", f"out={path}", "at=1"),
        *("gate=custom", "gate.slope=exp(-tau*abs(x-1))"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "gate=custom: half-width = log(2)/tau, derived from the slope" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("custom") and "exponential" in line)
    assert row.split()[2:5] == ["1", "0.6931/tau", "0.6931"]
    assert done.stdout.splitlines()[-1] == str(path)
    picture = matplotlib.image.imread(path)[:, :, :3]
    assert picture.shape[0] > 400
    colors = {
        tuple((pixel * 255).round().int().tolist()) for pixel in torch.tensor(picture).reshape(-1, 3).unique(dim=0)
    }
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colors  # three gates, in matplotlib's first three colours
    assert not list(tmp_path.glob("outputs*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["at=0"], "gatepo: at must be a finite number > 0, got 0.0; the paper uses 10"),
        (["gate=custom"], "gatepo: gate=custom must have exactly one of gate.slope and gate.value, got neither"),
    ],
)
def test_bad_input_to_the_command_is_one_line(arguments: list[str], message: str) -> None:
    done = gatepo("gates", *arguments)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr
