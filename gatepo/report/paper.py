"""The paper's Figures 1 to 5 over the runs at hand, in its arrangement; its axes and smoothing are not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gatepo.report import gates
from gatepo.report.panels import Figure, Line, Material, Panel
from gatepo.report.runs import LAST_EUR

TAUS = (1.0, 5.0, 10.0)  # of Figure 1
ERF, BEST = "erf", (10, 12)  # what the paper's figures compare: this gate, and all gates at these tau
UPDATE, ENTROPY = "update", "policy entropy, nats per token"


def figures(material: Material) -> list[Figure]:
    """Give those of the five figures for which there are runs."""
    of_tau, of_gates = temperatures(material), methods(material)
    by_tau, by_gate = _words_of_tau(material, of_tau), _words_of_gates(material, of_gates)
    found = [figure_1(material)]
    if of_tau:
        found.append(_reward(2, by_tau, of_tau))
    if of_gates:
        found.append(_reward(3, by_gate, of_gates))
        found.append(_entropy_and_eur(material, 4, by_gate, of_gates))
    if of_tau:
        found.append(_entropy_and_eur(material, 5, by_tau, of_tau))
    return [figure for figure in found if figure is not None]


def _words_of_tau(material: Material, groups: Sequence[int]) -> str:
    return f"the {material.groups[groups[0]].gate} gate at {len(groups)} tau" if groups else ""


def _words_of_gates(material: Material, groups: Sequence[int]) -> str:
    """Say at which tau gates are compared: the logged one where a controller or a width sets it."""
    tempered = [group for group in groups if gates.takes_tau(material.group_runs(group)[0])]
    pair = _pair(material, tempered[0]) if tempered else None
    if not pair or None in pair:
        return "gates at the same tau setting"
    return f"gates at tau {pair[0]:g}/{pair[1]:g}"


def missing(material: Material) -> str:
    """Say which of the five figures these runs cannot give, and why; empty where there are all."""
    words = []
    if not temperatures(material):
        words.append("Figures 2 and 5 compare temperatures of one gate, and these runs have no two of them.")
    if not methods(material):
        words.append("Figures 3 and 4 compare gates at one temperature, and these runs have no two of them.")
    return " ".join(words)


def temperatures(material: Material) -> tuple[int, ...]:
    """Choose the groups of one gate that differ in tau alone: the most, with the erf gate first."""

    def key(group: int) -> Any:
        if not gates.takes_tau(material.group_runs(group)[0]):
            return None
        return material.groups[group].gate, _beside(material, group, "tau")

    return _most(material, key, prefer=lambda groups: material.groups[groups[0]].gate == ERF)


def methods(material: Material) -> tuple[int, ...]:
    """Choose the groups with the same tau and other gates: the most, with the paper's best tau first.

    A gate that takes no tau is beside all of them.
    """
    untempered = [g for g in material.everyone if not gates.takes_tau(material.group_runs(g)[0])]

    def key(group: int) -> Any:
        tau = tuple((k, str(v)) for k, v in material.groups[group].settings.items() if k.startswith("tau."))
        return None if group in untempered else (tau, _beside(material, group, "tau", "gate"))

    def complete(groups: Sequence[int]) -> list[int]:
        beside = [_beside(material, g, "tau", "gate") for g in groups[:1]]
        return sorted({*groups, *(g for g in untempered if _beside(material, g, "tau", "gate") in beside)})

    found = _most(material, key, prefer=lambda groups: _pair(material, groups[0]) == BEST, complete=complete)
    return found or _most(material, lambda group: _beside(material, group, "tau", "gate"), only=untempered)


def _beside(material: Material, group: int, *left_out: str) -> tuple[tuple[str, str], ...]:
    settings = material.groups[group].settings.items()
    return tuple((key, str(value)) for key, value in settings if key.partition(".")[0] not in left_out)


def _pair(material: Material, group: int) -> Any:
    tau = material.group_runs(group)[0].config.get("tau")
    return (tau.get("pos"), tau.get("neg")) if isinstance(tau, dict) else None


def _most(
    material: Material,
    key: Callable[[int], Any],
    prefer: Callable[[Sequence[int]], bool] = lambda groups: False,
    complete: Callable[[Sequence[int]], Sequence[int]] = lambda groups: groups,
    only: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Give the largest set of two groups or more that have the same key; None is no key."""
    sets: dict[Any, list[int]] = {}
    for group in material.everyone if only is None else only:
        if key(group) is not None:
            sets.setdefault(key(group), []).append(group)
    found = [tuple(complete(groups)) for groups in sets.values()]
    found = [groups for groups in found if len(groups) > 1]
    return max(found, key=lambda groups: (len(groups), prefer(groups)), default=())


def figure_1(material: Material) -> Figure | None:
    """Draw the gates of the runs: values above, slopes below; None where none is one of the library's."""
    known: dict[str, tuple[int, Any]] = {}
    for group in material.everyone:
        gate = gates.gate_of(material.group_runs(group)[0])
        if gate is not None:
            known.setdefault(repr(gate), (group, gate))
    if not known:
        return None
    drawn = {tau: [(group, *gates.curves(gate, tau)) for group, gate in known.values()] for tau in TAUS}
    above = [_gate_panel(tau, "value f(r)", [(g, value) for g, value, _ in found]) for tau, found in drawn.items()]
    below = [_gate_panel(tau, "slope f'(r)", [(g, slope) for g, _, slope in found]) for tau, found in drawn.items()]
    return Figure(
        name="figure1_gates",
        title="Figure 1. The gates of these runs and their slopes",
        says="Values f(r), all through (1, 1), and slopes f'(r), where A > 0, at tau = 1, 5, 10. Formulas, not runs."
        + gates.left_out(material.runs),
        panels=[*above, *below],
        groups=tuple(group for group, _ in known.values()),
        columns=len(TAUS),
        labels=_names(material, [gate for _, gate in known.values()], [group for group, _ in known.values()]),
    )


def _names(material: Material, found: Sequence[Any], groups: Sequence[int]) -> tuple[str, ...]:
    """Name gates by their option, and by their settings too where one option is there twice."""
    names = [material.groups[group].gate for group in groups]
    return tuple(name if names.count(name) == 1 else repr(gate) for name, gate in zip(names, found, strict=True))


def _gate_panel(tau: float, y: str, curves: Sequence[tuple[int, list[float]]]) -> Panel:
    lines = [Line(x=gates.RATIOS, y=values, group=group) for group, values in curves]
    return Panel(title=f"tau = {tau:g}", x="ratio r", y=y, lines=lines)


def _reward(number: int, what: str, groups: tuple[int, ...]) -> Figure:
    return Figure(
        name=f"figure{number}_reward",
        title=f"Figure {number}. Reward over training, {what}",
        says="Mean reward of the rollout batch. Line: mean over seeds; band: from the lowest to the highest seed.",
        panels=[Panel(title="Reward", x=UPDATE, y="mean reward", curves="reward", groups=groups)],
        groups=groups,
        columns=1,
    )


def _entropy_and_eur(material: Material, number: int, what: str, groups: tuple[int, ...]) -> Figure:
    title = f"Figure {number}. Policy entropy and EUR over training, {what}"
    return entropy_and_eur(material, f"figure{number}_entropy_eur", title, groups)


def entropy_and_eur(material: Material, name: str, title: str, groups: tuple[int, ...]) -> Figure:
    """Draw entropy to the left and EUR to the right, as eq. 12 averages it and, where mu > 1, of the last iteration."""
    panels = [
        Panel(title="Policy entropy", x=UPDATE, y=ENTROPY, curves="entropy", groups=groups),
        Panel(title="EUR, eq. 12", x=UPDATE, y="EUR, all iterations", curves="eur", groups=groups),
    ]
    if max(run.iterations for group in groups for run in material.group_runs(group)) > 1:
        panels += [
            Panel(title="EUR, last iteration", x=UPDATE, y="EUR, last iteration", curves=LAST_EUR, groups=groups)
        ]
    return Figure(
        name=name,
        title=title,
        says="EUR as eq. 12 averages it takes in all iterations, of which the first is 1 by construction; beside it "
        "that of the last iteration alone. Line: mean over seeds; band: from the lowest to the highest seed.",
        panels=panels,
        groups=groups,
        columns=len(panels),
    )
