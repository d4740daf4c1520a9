"""Figures beyond the paper's: all groups, outcomes of single runs, EUR against tau, entropy against EUR, widths."""

from __future__ import annotations

from collections.abc import Mapping

from gatepo.report import gates
from gatepo.report.panels import Figure, Line, Material, Panel, Point, with_means
from gatepo.report.paper import ENTROPY, UPDATE, entropy_and_eur
from gatepo.report.runs import LAST_EUR, Run

MEAN_EUR = "mean EUR, last iteration"
PARTS = 4  # at most so many parts of the reward


def figures(material: Material, shown: set[int]) -> list[Figure]:
    """Give those for which there are runs; curves of all groups where the paper's figures have ``shown`` fewer."""
    found = [parts(material), by_iteration(material), outcomes(material), eur_and_tau(material)]
    found += [entropy_and_its_eur(material), widths(material)]
    return [*(everyone(material) if set(material.everyone) - shown else []), *(f for f in found if f is not None)]


def everyone(material: Material) -> list[Figure]:
    """Draw reward, entropy and EUR of all groups."""
    of_all = ", all settings" if len(material.groups) > 1 else ""
    reward = Figure(
        name="reward",
        title=f"Reward over training{of_all}",
        says="Mean reward of the rollout batch. Line: mean over seeds; band: from the lowest to the highest seed.",
        panels=[Panel(title="Reward", x=UPDATE, y="mean reward", curves="reward", groups=material.everyone)],
        groups=material.everyone,
        columns=1,
    )
    return [
        reward,
        entropy_and_eur(material, "entropy_eur", f"Policy entropy and EUR over training{of_all}", material.everyone),
    ]


def parts(material: Material) -> Figure | None:
    """Draw each part of the reward, such as answer and format."""
    logged = dict.fromkeys(key for run in material.runs for key in run.metrics[0] if key.startswith("rewards/"))
    keys = [key for key in logged if key.endswith("/mean")][:PARTS]
    if not keys:
        return None
    panels = [
        Panel(title=name, x=UPDATE, y=f"mean {name} reward", curves=key, groups=material.everyone)
        for key in keys
        for name in [key.split("/")[1]]
    ]
    return Figure(
        name="reward_parts",
        title="What the reward is made of",
        says="Each part of the reward before its weight, mean of the rollout batch.",
        panels=panels,
        groups=material.everyone,
    )


def by_iteration(material: Material) -> Figure | None:
    """Draw EUR of each of the mu iterations over a rollout batch."""
    most = material.iterations()
    keys = [f"eur/iteration_{k}" for k in range(1, most + 1)]
    if most < 2 or not all(material.has(key) for key in keys):
        return None
    return Figure(
        name="eur_iterations",
        title="EUR by iteration",
        says="The same EUR (eq. 12), apart for each pass over a rollout batch. In the first the policy is the one that "
        "sampled, and EUR is 1 but for rounding; the gate acts from the second on.",
        panels=[
            Panel(title=f"Iteration {k}", x=UPDATE, y="EUR", curves=key, groups=material.everyone)
            for k, key in enumerate(keys, 1)
        ],
        groups=material.everyone,
        columns=min(most, 4),
    )


def outcomes(material: Material) -> Figure | None:
    """Draw each run's answers in the last fifth of training, a row for each group; crosses collapsed."""
    points = [
        Point(x=run.first_and_last(run.answer_key)["last"], y=row, group=group, run=place, cross=run.collapsed)
        for row, group in enumerate(material.everyone)
        for place in material.groups[group].runs
        for run in [material.runs[place]]
    ]
    return Figure(
        name="outcomes",
        title="Where each run ends",
        says=f"One mark for each run: its {material.counted} in the last fifth of training. A cross has "
        "collapsed: it ends below the untrained model's first batch. Runs end in two ways, so look at the marks before "
        "you look at a mean.",
        panels=[
            Panel(
                title=f"{material.counted.capitalize()}, last fifth",
                x=f"mean of {material.counted}, last fifth of the updates",
                y="",
                points=points,
                groups=material.everyone,
                rows=True,
            )
        ],
        groups=material.everyone,
        columns=1,
    )


def _points(material: Material, x: Mapping[int, float | None], y: Mapping[int, float | None]) -> list[Point]:
    """Give a point for each run that has both."""
    found = []
    for group in material.everyone:
        for place in material.groups[group].runs:
            at, value = x.get(place), y.get(place)
            if at is not None and value is not None:
                found.append(Point(x=at, y=value, group=group, run=place, cross=material.runs[place].collapsed))
    return found


def _means(material: Material, key: str) -> dict[int, float | None]:
    return {place: run.mean(key) for place, run in enumerate(material.runs)}


def eur_and_tau(material: Material) -> Figure | None:
    """Draw EUR against tau; None where no gate takes one."""
    tau = {place: gates.tau(run) for place, run in enumerate(material.runs)}
    last = with_means(_points(material, tau, _means(material, LAST_EUR)))
    whole = with_means(_points(material, tau, _means(material, "eur")))
    if not last:
        return None
    x = "tau where A > 0, mean over the run"
    return Figure(
        name="eur_tau",
        title="EUR against tau",
        says="Means over whole runs. Small marks are runs, large ones settings. Gates that take no tau are left out.",
        panels=[
            Panel(title="EUR, eq. 12", x=x, y="mean EUR, all iterations", points=whole, log_x=True),
            Panel(title="EUR, last iteration", x=x, y=MEAN_EUR, points=last, log_x=True),
        ],
        groups=tuple(sorted({point.group for point in last})),
    )


def entropy_and_its_eur(material: Material) -> Figure | None:
    """Draw entropy against EUR: runs as points, and how both go along in training."""
    points = with_means(_points(material, _means(material, LAST_EUR), _means(material, "entropy")))
    if not points:
        return None
    paths = []
    for group in material.everyone:
        eur = material.curves.of_group(material.groups[group].runs, LAST_EUR)
        entropy = material.curves.of_group(material.groups[group].runs, "entropy")
        at = dict(zip(entropy.x, entropy.y, strict=True))
        both = [(e, at[x]) for x, e in zip(eur.x, eur.y, strict=True) if x in at]
        paths.append(Line(x=[e for e, _ in both], y=[h for _, h in both], group=group))
    return Figure(
        name="entropy_vs_eur",
        title="Entropy against EUR",
        says="Left: means over a run. Right: the way from the first update to the last, mean over seeds. Both move "
        "with training, so that a relation between them on the right may be no more than their common trend.",
        panels=[
            Panel(title="Runs", x=MEAN_EUR, y="mean entropy, nats", points=points),
            Panel(title="Along training", x="EUR, last iteration", y=ENTROPY, lines=paths),
        ],
        groups=material.everyone,
    )


def widths(material: Material) -> Figure | None:
    """Draw EUR and answers against the half-width of the gate, times the learning rate where that differs."""
    width = {place: gates.half_width(run) for place, run in enumerate(material.runs)}
    answers = {place: run.first_and_last(run.answer_key)["last"] for place, run in enumerate(material.runs)}
    rates = {place: _rate(run) for place, run in enumerate(material.runs)}
    by_rate = len({rate for rate in rates.values() if rate is not None}) > 1
    scaled = {p: w * (rates[p] or 0) if by_rate and w is not None else w for p, w in width.items()}
    left = with_means(_points(material, width, _means(material, LAST_EUR)))
    if not left:
        return None
    x = "half-width of the gate"
    return Figure(
        name="widths",
        title="Widths: equal tau is not equal width",
        says="The half-width is the distance above r = 1 at which the slope is 1/2 (where a clip ends). At equal "
        "half-width gates differ in shape alone. Crosses have collapsed." + gates.left_out(material.runs),
        panels=[
            Panel(title="EUR, last iteration", x=x, y=MEAN_EUR, points=left, log_x=True),
            Panel(
                title=f"{material.counted.capitalize()}, last fifth",
                x=f"{x} x learning rate" if by_rate else x,
                y=f"mean of {material.counted}, last fifth",
                points=_points(material, scaled, answers),
                log_x=True,
            ),
        ],
        groups=tuple(sorted({point.group for point in left})),
    )


def _rate(run: Run) -> float | None:
    optimizer = run.config.get("optimizer")
    rate = optimizer.get("lr") if isinstance(optimizer, dict) else None
    return float(rate) if isinstance(rate, int | float) else None
