"""Generated arithmetic: problems, worked solutions, and the slips that pretraining teaches on purpose.

Two sources stand in for the paper's training mix: ``words`` (arithmetic as a story, like GSM8K) and
``expressions`` (bare arithmetic, like DeepMath). Both come in three levels: level k needs k steps. All numbers are
small, so that the model can be right if it cares to. Everything is a pure function of the ``random.Random`` given.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

LEVELS = (1, 2, 3)
LARGEST = 30  # operand
BOUND = 100  # a product is not larger in absolute value

NAMES = ("Tom", "Ana", "Ben", "Eva", "Max", "Lia", "Sam", "Zoe")
ITEMS = ("apples", "books", "coins", "shells", "stamps", "marbles", "pens", "cards")
GAINS = ("{name} buys {n} more.", "{name} finds {n} more.", "{name} gets {n} from {other}.")
LOSSES = ("{name} gives {n} to {other}.", "{name} loses {n}.", "{name} sells {n}.")
TIMES = {2: "Then the number doubles.", 3: "Then the number triples."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a worked solution: ``left operator right = result``."""

    left: int
    operator: str
    right: int

    @property
    def result(self) -> int:
        """The number that the step comes to."""
        return {"+": self.left + self.right, "-": self.left - self.right, "*": self.left * self.right}[self.operator]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question with the steps that solve it; ``answer`` is the last step's result."""

    source: str
    level: int
    question: str
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        """The number that is asked for."""
        return self.steps[-1].result


def words(rng: random.Random, level: int) -> Problem:
    """Give a story with ``level`` events that change one quantity, never below zero."""
    name, other = rng.sample(NAMES, 2)
    item = rng.choice(ITEMS)
    start = value = rng.randint(2, LARGEST)
    steps, sentences = [], [f"{name} has {start} {item}."]
    for _ in range(level):
        operator = rng.choice("++--*" if value * 3 <= BOUND else "+--")
        if operator == "*":
            n = rng.choice(sorted(TIMES))
            sentences.append(TIMES[n])
        else:
            n = rng.randint(1, LARGEST if operator == "+" else max(1, min(value, LARGEST)))
            sentences.append(rng.choice(GAINS if operator == "+" else LOSSES).format(name=name, other=other, n=n))
        steps.append(Step(left=value, operator=operator, right=n))
        value = steps[-1].result
        if value < 0:  # a loss from zero: make another story
            return words(rng, level)
    sentences.append(f"How many {item} does {name} have now?")
    return Problem(source="words", level=level, question=" ".join(sentences), steps=tuple(steps))


def expressions(rng: random.Random, level: int) -> Problem:
    """Give an expression with ``level`` operators, evaluated from the left; results may be negative."""
    value = rng.randint(2, LARGEST)
    text, steps = str(value), list[Step]()
    for index in range(level):
        operator = rng.choice("+-*" if abs(value) * 5 <= BOUND else "+-")
        n = rng.randint(2, 5) if operator == "*" else rng.randint(1, LARGEST)
        if operator == "*" and index > 0 and steps[-1].operator != "*":
            text = f"({text})"
        text = f"{text} {operator} {n}"
        steps.append(Step(left=value, operator=operator, right=n))
        value = steps[-1].result
    return Problem(source="expressions", level=level, question=f"Compute {text}.", steps=tuple(steps))


SOURCES: dict[str, Callable[[random.Random, int], Problem]] = {"words": words, "expressions": expressions}


# --- worked solutions -------------------------------------------------------------------------------------------

# Free choices that the reward does not care about. They keep the policy's entropy up while it learns to be right, and
# with it the ratios of the second iteration away from 1.
OPENINGS = ("", "", "Let me see. ", "Step by step. ", "We start. ", "I will work it out. ", "Here we go. ", "Sure. ")
FIRST = ("", "First ", "Here ", "Now ", "So ", "Clearly ", "Today ", "Again ")
LATER = (
    "Then ",
    "Now ",
    "So ",
    "Next ",
    "And ",
    "After that ",
    "From there ",
    "Here ",
    "Later ",
    "Thus ",
    "Hence ",
    "Also ",
)
FILLERS = (
    *(
        "",
        "",
        "",
        "well ",
        "ok ",
        "right ",
        "good ",
        "yes ",
        "surely ",
        "simply ",
        "just ",
        "again ",
        "fine ",
        "maybe ",
    ),
    *("really ", "quickly ", "slowly ", "gladly ", "still ", "only ", "even ", "once ", "soon ", "there ", "too "),
)
CLOSINGS = ("", "", "", " Done.", " That is it.", " Good.", " Nice.", " So it is.")
SPOKEN = {"+": "plus", "-": "minus", "*": "times"}
STYLES: tuple[Callable[[Step, int], str], ...] = (
    lambda s, r: f"{s.left}{s.operator}{s.right}={r}.",
    lambda s, r: f"{s.left} {SPOKEN[s.operator]} {s.right} is {r}.",
    lambda s, r: f"{s.left} {SPOKEN[s.operator]} {s.right} gives {r}.",
    lambda s, r: f"{s.left} {s.operator} {s.right} makes {r}.",
    lambda s, r: f"we take {s.left} {SPOKEN[s.operator]} {s.right} and get {r}.",
)
# How the parts are put together. Only the first is the full format of eq. 10; the others lack some tag, as a model
# does that was never asked for them.
SHAPES = (
    "<think>{work}</think><answer>{answer}</answer>",
    "{work} The answer is {answer}.",
    "<think>{work}</think>The answer is {answer}.",
    "<think>{work}<answer>{answer}</answer>",
    "{work}<answer>{answer}</answer>",
    "<think>{work}</think><answer>{answer}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How the worked solutions of a stage of pretraining go wrong."""

    slip_rate: float  # of a step
    shares: tuple[float, ...]  # of each of SHAPES


SKILL = Habits(slip_rate=0.18, shares=(0.30, 0.20, 0.16, 0.12, 0.12, 0.10))
START = Habits(slip_rate=0.20, shares=(0.20, 0.28, 0.18, 0.12, 0.12, 0.10))


def slip(rng: random.Random, result: int) -> int:
    """Give a wrong result of the kind people write: off by one, by a few, or by ten."""
    return result + rng.choice((-10, -2, -1, 1, 2, 10))


def solution(rng: random.Random, problem: Problem, habits: Habits) -> str:
    """Give a completion for pretraining: worked steps with deliberate slips, in a shape that may lack tags."""
    parts, value = [], problem.steps[0].left
    for index, step in enumerate(problem.steps):
        step = Step(left=value, operator=step.operator, right=step.right)  # a slip is carried on, as it would be
        value = slip(rng, step.result) if rng.random() < habits.slip_rate else step.result
        parts.append(rng.choice(LATER if index else FIRST) + rng.choice(FILLERS) + rng.choice(STYLES)(step, value))
    (shape,) = rng.choices(SHAPES, habits.shares)
    return shape.format(work=rng.choice(OPENINGS) + " ".join(parts) + rng.choice(CLOSINGS), answer=value)
