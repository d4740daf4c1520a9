"""Hand-written pairs: by someone who did not write the verifier, half of which it had not seen, and one by one the
constructs that an answer can have, which it was written for."""

from pathlib import Path

import pytest

from gatepo.rewards.verifier import Verifier
from gatepo.verify import answers_in, grade

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(("half", "agreed"), [("dev", 473), ("unseen", 468), ("constructs", 1075)])
def test_verdicts_agree_with_the_marks_and_no_wrong_answer_passes(half: str, agreed: int) -> None:
    """The numbers are those of the first time that the unseen half was graded, at the end of the work."""
    lines = answers_in(GOLDEN / f"answers_{half}.jsonl")
    verifier = Verifier(deadline=10.0)
    try:
        verdicts = [(found.verdict.equal, found.line.mark) for found in grade(lines, verifier, "auto")]
    finally:
        verifier.close()
    assert [pair for pair in verdicts if pair == (True, False)] == []
    assert sum(equal == mark for equal, mark in verdicts) >= agreed
    assert agreed > 0.96 * len(lines)
