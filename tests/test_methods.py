"""Every method beside an independent statement of its own paper's objective, value and gradient.

The statements below are written from the papers, completion by completion, and share nothing with gatepo.objective.
Where a paper's loss is log pi times a weight that no gradient flows through, its value says nothing; then the gradient
is that loss's, and the value the integral of the weight.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from composed import algorithm, typed
from conftest import REPO
from torch import Tensor

from gatepo import build
from gatepo.loop import train
from gatepo.objective import gates
from gatepo.objective.aggregation import Totals
from gatepo.objective.kl import NoKl
from gatepo.objective.surrogate import Objective, policy_loss
from gatepo.rewards.base import RewardFunction
from gatepo.state import RunState

METHODS = sorted(file.stem for file in (REPO / "conf" / "method").glob("*.yaml"))
LIMIT = 16  # the longest completion allowed
LENGTHS = (3, 16, 1, 9, 7, 12)
ADVANTAGES = (1.3, -0.7, 0.4, -1.1, 0.0, 0.9)

Term = Callable[[Tensor, float], Tensor]  # (ratios of a completion's tokens, A) to one term per token


@cache
def objective(method: str) -> Objective:
    return build.objective(typed(f"+method={method}", f"sampling.max_completion_length={LIMIT}"))


class Rollout:
    """Completions of different lengths in float64, far from pi_old, and from the untrained model."""

    def __init__(self, spread: float) -> None:
        generator = torch.Generator().manual_seed(5)
        rows = [torch.randn(3, n, generator=generator, dtype=torch.float64) for n in LENGTHS]
        self.logp = [(-1.5 + 0.4 * row[0]).requires_grad_() for row in rows]
        self.old = [(p + spread * row[1]).detach() for p, row in zip(self.logp, rows, strict=True)]
        self.reference = [(p + 0.3 * row[2]).detach() for p, row in zip(self.logp, rows, strict=True)]
        self.advantage = ADVANTAGES
        self.tokens = sum(LENGTHS)

    @property
    def mask_NT(self) -> Tensor:
        return torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]

    def padded(self, rows: list[Tensor]) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=math.nan)

    def ours(self, method: str) -> Tensor:
        """What gatepo makes of it."""
        loss, _ = policy_loss(
            objective(method),
            logp_NT=self.padded(self.logp),
            anchor_NT=self.padded(self.old),
            sampler_NT=self.padded(self.old),
            reference_NT=self.padded(self.reference),
            entropy_NT=torch.zeros(self.mask_NT.shape, dtype=torch.float64),
            advantage_N=torch.tensor(self.advantage, dtype=torch.float64),
            mask_NT=self.mask_NT,
            totals=Totals(completions=len(LENGTHS), tokens=self.tokens),
        )
        return loss

    def gradient(self, loss: Tensor) -> Tensor:
        return torch.cat(torch.autograd.grad(loss, self.logp, allow_unused=False))

    def sequence_mean(self, term: Term) -> Tensor:
        """-1/N sum_i 1/|o_i| sum_t."""
        return -sum(term((p - q).exp(), a).mean() for p, q, a in self.rows()) / len(LENGTHS)

    def token_mean(self, term: Term) -> Tensor:
        """-1/sum_i |o_i| sum_i sum_t."""
        return -sum(term((p - q).exp(), a).sum() for p, q, a in self.rows()) / self.tokens

    def rows(self) -> list[tuple[Tensor, Tensor, float]]:
        return list(zip(self.logp, self.old, self.advantage, strict=True))

    def k3_to_reference(self) -> list[Tensor]:
        """GRPO, eq. 4: pi_ref / pi - log(pi_ref / pi) - 1."""
        return [q.sub(p).exp() - q.sub(p) - 1 for p, q in zip(self.logp, self.reference, strict=True)]

    def k3_to_sampling(self) -> list[Tensor]:
        """KL(pi_old || pi) with samples of pi_old: pi / pi_old - log(pi / pi_old) - 1."""
        return [p.sub(q).exp() - p.sub(q) - 1 for p, q in zip(self.logp, self.old, strict=True)]


def ppo(low: float, high: float) -> Term:
    """min(r A, clip(r, 1 - low, 1 + high) A)."""
    return lambda r, a: torch.minimum(r * a, r.clamp(1 - low, 1 + high) * a)


def dual(low: float, high: float, c: float) -> Term:
    """Ye et al., eq. 5: where A < 0, max(min(r A, clip(r) A), c A)."""

    def term(r: Tensor, a: float) -> Tensor:
        clipped = ppo(low, high)(r, a)
        return torch.maximum(clipped, torch.full_like(r, c * a)) if a < 0 else clipped

    return term


def normalised(value: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Through (1, 1), as losses are logged."""
    return lambda r: value(r) - value(torch.ones_like(r)) + 1


def sapo(pos: float, neg: float) -> Term:
    """Eq. 3: sigmoid(tau (x - 1)) 4 / tau."""

    def term(r: Tensor, a: float) -> Tensor:
        tau = pos if a > 0 else neg
        return normalised(lambda x: 4 / tau / (1 + (-tau * (x - 1)).exp()))(r) * a

    return term


def erf(r: Tensor, a: float) -> Tensor:
    """Eq. 6, as printed."""
    tau = 10.0 if a > 0 else 12.0
    scale = math.sqrt(math.pi / (2 * tau**2))
    return (scale * (1 + torch.erf(tau * (r - 1) / math.sqrt(2))) + 1 - scale) * a


def arctan(r: Tensor, a: float) -> Tensor:
    """Eq. 7."""
    tau = 10.0 if a > 0 else 12.0
    return (1 + torch.arctan(tau * (r - 1)) / tau) * a


def softsign(r: Tensor, a: float) -> Tensor:
    """Eq. 8."""
    tau = 10.0 if a > 0 else 12.0
    return (1 + (r - 1) / torch.sqrt(1 + tau**2 * (r - 1) ** 2)) * a


def weighted(weight: Callable[[Tensor, float], Tensor]) -> Term:
    """sg[c(r)] A log pi, of which the gradient alone has a meaning; log r has that of log pi."""
    return lambda r, a: weight(r.detach(), a) * a * r.log()


def cispo_weight(r: Tensor, a: float) -> Tensor:
    return r.clamp(max=5.0)


def ce_gppo_weight(r: Tensor, a: float) -> Tensor:
    if a > 0:
        return torch.where(r > 1.2, 1.0 * 1.2, r)
    return torch.where(r < 0.8, 0.75 * 0.8, torch.where(r > 10, 0.0, r))  # 10: the script's clip_ratio_c


def aspo_weight(r: Tensor, a: float) -> Tensor:
    if a > 0:
        return torch.where(r > 1.2, 0.0, torch.clamp(1 / r, max=3.0))
    return torch.where(r < 0.8, 0.0, r.clamp(max=3.0))


def summed(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).sum()


def statement(method: str, x: Rollout) -> Tensor:
    """The loss of ``method``'s paper."""
    match method:
        case "ppo_clip":
            return x.token_mean(ppo(0.2, 0.2))
        case "grpo":
            penalty = sum(k.mean() for k in x.k3_to_reference()) / len(LENGTHS)
            return x.sequence_mean(ppo(0.2, 0.2)) + 0.04 * penalty
        case "dual_clip":
            return x.token_mean(dual(0.2, 0.2, 3))
        case "sapo":
            return x.sequence_mean(sapo(1.0, 1.05))
        case "erf" | "arctan" | "softsign":
            return x.sequence_mean({"erf": erf, "arctan": arctan, "softsign": softsign}[method])
        case "dr_grpo":
            return -sum(ppo(0.2, 0.2)((p - q).exp(), a).sum() / LIMIT for p, q, a in x.rows()) / len(LENGTHS)
        case "dapo":
            return x.token_mean(dual(0.2, 0.28, 10))  # 10: clip_ratio_c of its script
        case "gspo":
            return -sum(ppo(3e-4, 4e-4)((p - q).mean().exp(), a) for p, q, a in x.rows()) / len(LENGTHS)
        case "gspo_token":
            return -sum(
                ppo(3e-4, 4e-4)((p - q).mean().exp().detach() * (p - p.detach()).exp(), a).mean()
                for p, q, a in x.rows()
            ) / len(LENGTHS)
        case "luspo":
            return -sum(len(p) * ppo(3e-4, 4e-4)((p - q).mean().exp(), a) for p, q, a in x.rows()) / len(LENGTHS)
        case "gmpo":
            total = torch.zeros((), dtype=torch.float64)
            for p, q, a in x.rows():
                sign = math.copysign(1.0, a)
                bounded = sign * torch.minimum(sign * (p - q), sign * (p - q).clamp(-0.4, 0.4))
                total = total + a * bounded.mean().exp()
            return -total / len(LENGTHS)
        case "cispo":
            return x.token_mean(weighted(cispo_weight))
        case "ce_gppo":
            return x.token_mean(weighted(ce_gppo_weight))
        case "aspo":
            return x.token_mean(weighted(aspo_weight)) + 0.001 * summed(x.k3_to_reference()) / x.tokens
        case "vespo":
            total = torch.zeros((), dtype=torch.float64)
            for p, q, a in x.rows():
                k, rate = (2.0, 3.0) if a > 0 else (3.0, 2.0)
                w = (p - q).sum().exp().detach()
                total = total + (w**k * (rate * (1 - w)).exp() * a * p).sum()
            return -total / x.tokens
        case "soft_clip":
            return x.token_mean(sapo(2.0, 2.0)) + 1.0 * summed(x.k3_to_sampling()) / x.tokens
        case "trpo_penalty":
            return x.token_mean(lambda r, a: r * a) + 1.0 * summed(x.k3_to_sampling()) / x.tokens
        case "espo":
            return x.token_mean(lambda r, a: r * a)
        case "disc":
            penalty = summed([(p - q) ** 2 / 2 for p, q, _ in x.rows()]) / x.tokens
            return x.token_mean(ppo(0.4, 0.4)) + 1.0 * penalty
    raise AssertionError(f"{method} has no statement here")


GRADIENT_ALONE = {"cispo", "ce_gppo", "aspo", "vespo"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_a_method_is_what_its_paper_says(method: str, spread: float) -> None:
    if method == "vespo":
        spread /= 4  # the product over a completion's tokens
    x = Rollout(spread)
    ours, wanted = x.ours(method), statement(method, x)
    torch.testing.assert_close(x.gradient(ours), x.gradient(wanted), rtol=1e-9, atol=1e-12)
    if method not in GRADIENT_ALONE:
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_recorded_coefficient_is_that_of_the_gradient(method: str) -> None:
    """What is logged as coefficient is what A grad log pi is multiplied by, beside the aggregation's denominators."""
    x = Rollout(0.1 if method == "vespo" else 0.5)
    which = replace(objective(method), kl=NoKl())
    totals = Totals(completions=len(LENGTHS), tokens=x.tokens)
    logp_NT = x.padded(x.logp).detach().requires_grad_()
    advantage_N = torch.tensor(x.advantage, dtype=torch.float64)
    loss, record = policy_loss(
        which,
        logp_NT=logp_NT,
        anchor_NT=x.padded(x.old),
        advantage_N=advantage_N,
        mask_NT=x.mask_NT,
        totals=totals,
    )
    (gradient_NT,) = torch.autograd.grad(loss, logp_NT)
    one_NT = torch.ones_like(logp_NT).requires_grad_()
    (denominator_NT,) = torch.autograd.grad(which.aggregation.mean(one_NT, x.mask_NT, totals), one_NT)
    wanted_NT = -advantage_N[:, None] * record.coefficient_NT * denominator_NT
    torch.testing.assert_close(gradient_NT[x.mask_NT], wanted_NT[x.mask_NT], rtol=1e-9, atol=1e-12)


def test_methods_differ_from_each_other() -> None:
    rollouts = [Rollout(spread) for spread in (0.1, 0.3, 1.0, 2.0)]
    gradients = {method: torch.cat([x.gradient(x.ours(method)) for x in rollouts]) for method in METHODS}
    same = {(a, b) for a in METHODS for b in METHODS if a < b and torch.equal(gradients[a], gradients[b])}
    assert same == set()


@pytest.mark.parametrize("method", METHODS)
def test_each_method_says_in_one_place_what_its_authors_have_beside_it(method: str) -> None:
    lines = (REPO / "conf" / "method" / f"{method}.yaml").read_text().splitlines()
    comment = [line for line in lines[: lines.index("defaults:")] if line.startswith("# ") and "@package" not in line]
    places = [n for n, line in enumerate(comment) if line.startswith("# Not here: ")]
    assert len(places) == 1 and places[0] > 0  # after its source
    assert len(comment[places[0]]) > len("# Not here: ") + 20
    assert comment[-1].endswith(".")


def test_the_presets_run_what_their_authors_scripts_run() -> None:
    """The scripts are named in conf/method/."""
    for method, rounds, c in (("dapo", 10, 10.0), ("ce_gppo", 2, 10.0), ("cispo", 10, None)):
        settings = typed(f"+method={method}", "sampling.max_completion_length=40")
        assert (settings.batch.filter, settings.batch.max_rounds) == ("answer", rounds)
        assert getattr(settings.gate, "c", None) == c
        penalty = settings.reward.extra.get("overlong")
        assert (penalty is None) == (method == "ce_gppo")  # whose scripts have enable_overlong_buffer=False
        assert penalty is None or (penalty["limit"], penalty["share"], penalty["weight"]) == (40, 0.2, 1)
    gate = typed("+method=ce_gppo").gate
    assert (gate.eps_low, gate.eps_high, gate.beta_low, gate.beta_high) == (0.2, 0.2, 0.75, 1)
    plain = typed().batch
    assert (plain.filter, plain.max_rounds) == ("total", 1)


@pytest.mark.parametrize("method", ["dapo", "ce_gppo"])
def test_the_dual_clip_of_the_scripts_acts_beyond_10_where_a_is_negative(method: str) -> None:
    gate, ratio = objective(method).gate, torch.tensor([9.0, 11.0], dtype=torch.float64)
    assert (ratio * gate.slope(ratio, torch.tensor(1.0), torch.tensor(False))).tolist() == [9, 0]


@pytest.mark.parametrize("gate", ["cispo", "ce_gppo", "aspo", "gamma", "dual_clip"])
def test_a_gates_value_is_the_integral_of_its_slope(gate: str) -> None:
    """By the trapezoidal rule over 0.05 to 8, both signs, in float64."""
    family = gates.get(gate)
    ratio = torch.linspace(0.05, 8.0, 400_001, dtype=torch.float64)
    tau = torch.tensor(1.0, dtype=torch.float64)
    for positive in (torch.tensor(True), torch.tensor(False)):
        slope = family.slope(ratio, tau, positive)
        value = family.value(ratio, tau, positive)
        step = ratio[1] - ratio[0]
        integral = torch.cumsum((slope[:-1] + slope[1:]) / 2 * step, 0)
        assert (value[1:] - value[0] - integral).abs().max() < 1e-4


def test_every_gate_of_a_peer_is_1_at_1() -> None:
    one, tau = torch.ones(1, dtype=torch.float64), torch.tensor(10.0, dtype=torch.float64)
    for gate in ("cispo", "ce_gppo", "aspo", "gamma", "dual_clip"):
        values = [gates.get(gate).value(one, tau, torch.tensor(sign)).item() for sign in (True, False)]
        assert values == pytest.approx([1, 1], abs=1e-12), gate


def test_hand_worked_coefficients() -> None:
    """c = r f'(r) at r = 2 and r = 1/4, for A > 0 and A < 0, by hand from the papers."""
    worked = {
        "dual_clip": ((0.0, 0.25), (2.0, 0.0)),  # A > 0 clips above 1.2; A < 0 clips below 0.8 and above 3
        "cispo": ((2.0, 0.25), (2.0, 0.25)),  # min(r, 5)
        "ce_gppo": ((1.2, 0.25), (2.0, 0.6)),  # 1 x 1.2 above; 0.75 x 0.8 below
        "aspo": ((0.0, 3.0), (2.0, 0.0)),  # 1/r = 4, bounded by 3
        "gamma": ((4 * math.exp(-3), math.exp(2.25) / 16), (8 * math.exp(-2), math.exp(1.5) / 64)),
    }
    for gate, (positive, negative) in worked.items():
        for sign, wanted in ((True, positive), (False, negative)):
            ratio = torch.tensor([2.0, 0.25], dtype=torch.float64)
            slope = gates.get(gate).slope(ratio, torch.tensor(1.0), torch.tensor(sign))
            assert (ratio * slope).tolist() == pytest.approx(list(wanted)), (gate, sign)


@pytest.fixture(scope="module")
def reward() -> Iterator[RewardFunction]:
    """One for all methods: its checker takes seconds to start."""
    function = typed().reward.make()
    yield function
    function.close()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_the_embedded_model(method: str, reward: RewardFunction) -> None:
    small = ("updates=3", "batch.prompts=2", "batch.num_generations=4", "batch.micro=8")
    settings = typed(f"+method={method}", *small, "sampling.max_completion_length=24")
    made = replace(algorithm(settings), reward=reward)
    start = {name: p.detach().clone() for name, p in made.engine.weights()}
    rows: list[dict[str, float]] = []
    train(made, RunState(seed=0), [lambda state, row: rows.append(row)])
    assert len(rows) == 3
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert any(not torch.equal(p, start[name]) for name, p in made.engine.weights())
    assert rows[0]["eur"] == 1  # on-policy every slope is 1
    assert rows[1]["ratio/max"] != 1  # off-policy from the second on
