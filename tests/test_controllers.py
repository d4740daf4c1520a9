"""What moves tau and the KL coefficient over a run."""

from dataclasses import replace

import pytest

from gatepo.controllers import AdaptiveKl, TauSchedule
from gatepo.objective import gates
from gatepo.objective.aggregation import SequenceMean
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective
from gatepo.objective.tau import ConstantTau, tau_with_half_width

OBJECTIVE = Objective(
    gate=gates.get("erf"), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=SequenceMean()
)


def test_a_schedule_goes_from_one_pair_to_the_other() -> None:
    # linear at 1/4: 1 + 12/4 = 4 and 1.05 + 13.95/4 = 4.5375; cosine at 1/4: (1 - cos(pi/4)) / 2 = 0.1464 of the way
    quarter = {"constant": (1, 1.05), "linear": (4, 4.5375), "cosine": (2.7574, 3.0930)}
    for shape, (pos, neg) in quarter.items():
        tau = TauSchedule(shape=shape).steer(OBJECTIVE, 0.25, {}).tau
        assert (tau.pos, tau.neg) == (pytest.approx(pos, abs=1e-4), pytest.approx(neg, abs=1e-4))
    assert TauSchedule(shape="cosine").steer(OBJECTIVE, 0.5, {}).tau.pos == pytest.approx(7)


def test_the_kl_coefficient_is_doubled_and_halved_by_ppos_rule() -> None:
    rule = AdaptiveKl(target=0.01, low=0.25, high=4.0)
    seen, controls = [], {}
    for kl in (0.016, 0.016, 0.016, 0.014, 0.007, 0.006, 0.0, 0.0, 0.0, 0.0):
        controls |= rule.learn({"eur/iteration_2": 1.0, "kl": kl}, controls, 2)
        seen.append(controls["kl/coefficient"])
    assert seen == [2, 4, 4, 4, 4, 2, 1, 0.5, 0.25, 0.25]  # 1.5 x 0.01 = 0.015; 0.01 / 1.5 = 0.00667
    steered = rule.steer(replace(OBJECTIVE, kl=rule), 0.0, controls)
    assert steered.kl.coefficient == 0.25


@pytest.mark.parametrize("name", ["sigmoid", "erf", "arctan", "softsign"])
def test_matched_tau_gives_every_gate_the_same_half_width(name: str) -> None:
    tau = tau_with_half_width(gates.get(name), 0.1)
    assert gates.get(name).half_width(tau) == pytest.approx(0.1)
    at_ten = {"sigmoid": 17.627, "erf": 11.774, "arctan": 10.0, "softsign": 7.664}  # 1.763, 1.177, 1, 0.766 over 0.1
    assert tau == pytest.approx(at_ten[name], abs=1e-3)


def test_a_gate_without_tau_has_no_matched_one() -> None:
    with pytest.raises(ValueError, match=r"no tau gives Clip"):
        tau_with_half_width(gates.get("clip"), 0.1)
