"""The optimizer and its schedule over the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import torch

from gatepo.settings import DECAY, PAPER, POSITIVE, Rule, at_least, one_of, option, section, setting

if TYPE_CHECKING:
    from torch import nn
    from torch.optim.lr_scheduler import LRScheduler

# transformers' own "constant" knows no warm-up
_SCHEDULES = {"linear": "linear", "constant": "constant_with_warmup", "cosine": "cosine"}


class OptimizerOption(Protocol):
    """What is chosen by ``optimizer=NAME``."""

    @property
    def max_grad_norm(self) -> float:
        """Gradients are scaled down to this norm."""
        ...

    def make(self, parameters: Iterable[nn.Parameter], *, fused: bool) -> torch.optim.Optimizer:
        """Make the optimizer of these parameters; ``fused`` says whether one kernel may step all of them."""
        ...

    def make_schedule(self, optimizer: torch.optim.Optimizer, updates: int) -> LRScheduler:
        """Make the schedule of its learning rate over a run of so many updates."""
        ...


@section("optimizer")
class Scheduled:
    """A peak learning rate, how it rises and falls over the run, and a bound on the gradient."""

    lr: float = setting("The peak learning rate.", rule=POSITIVE, remedy="type optimizer=paper for the paper's")
    schedule: str = setting("How the learning rate falls.", default="linear", rule=one_of(*_SCHEDULES), remedy=PAPER)
    warmup: int = setting("The learning rate rises from 0 in these updates.", default=0, rule=at_least(0), remedy=PAPER)
    max_grad_norm: float = setting(
        "Gradients are scaled down to this norm. The paper does not state it.",
        default=1.0,
        rule=Rule("must be > 0", lambda value: value > 0),
        remedy="{default} is the default, inf clips nothing",
    )

    def make_schedule(self, optimizer: torch.optim.Optimizer, updates: int) -> LRScheduler:
        """See :class:`OptimizerOption`."""
        from transformers.optimization import get_scheduler  # slow to import

        name = _SCHEDULES[self.schedule]
        made: LRScheduler = get_scheduler(name, optimizer, num_warmup_steps=self.warmup, num_training_steps=updates)
        return made


def follow(schedule: LRScheduler) -> None:
    """Put the learning rates where the schedule has them now; it may be of another number of updates than was saved."""
    if not isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):  # of an optimizer from outside
        return
    factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
    rates = [base * factor for base, factor in zip(schedule.base_lrs, factors, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


@option("optimizer", "adamw")
class AdamW(Scheduled):
    """Adam with decoupled weight decay (the paper's Table 2)."""

    beta1: float = setting("The first moment decays by this.", default=0.9, rule=DECAY, remedy=PAPER)
    beta2: float = setting("The second moment decays by this.", default=0.999, rule=DECAY, remedy=PAPER)
    eps: float = setting("This is added to the denominator.", default=1e-8, rule=POSITIVE, remedy=PAPER)
    weight_decay: float = setting("The decoupled weight decay; the paper states none.", default=0.0, rule=at_least(0))

    def make(self, parameters: Iterable[nn.Parameter], *, fused: bool) -> torch.optim.Optimizer:
        """See :class:`OptimizerOption`."""
        return torch.optim.AdamW(
            parameters,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=fused or None,
        )
