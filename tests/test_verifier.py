"""Answers against gold answers: agreement with published marks, false positives, what a response states."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPO

from gatepo.rewards.extraction import anywhere
from gatepo.rewards.verifier import Verifier
from gatepo.verify import answers_in, grade


@pytest.fixture(scope="module")
def verify() -> Iterator[Verifier]:
    verifier = Verifier(deadline=10.0, workers=2)
    yield verifier
    verifier.close()


@pytest.mark.parametrize(("name", "total", "least"), [("equivalence", 240, 230), ("model_outputs", 988, 976)])
def test_published_marks_are_met_but_for_the_ones_that_the_docs_list(
    verify: Verifier, real_data: Path, name: str, total: int, least: int
) -> None:
    graded = grade(answers_in(real_data / "answers" / f"{name}.jsonl"), verify, "auto")
    differ = {g.line.number: g.verdict.equal for g in graded if g.verdict.equal != g.line.mark}
    assert len(graded) == total
    assert len(graded) - len(differ) >= least
    docs = (REPO / "docs" / "verifier.md").read_text(encoding="utf-8")
    listed = re.findall(rf"^\| {name} (\d+) \|.*\| (?:right|wrong) \| (right|wrong) \|", docs, re.MULTILINE)
    assert differ == {int(line): said == "right" for line, said in listed}
    if name == "equivalence":
        assert not any(differ.values()), "a false positive"


DIFFERENT = [
    # What libraries are known to let pass.
    ("1+1/e", "1-1/e"),
    ("4", "4\\sqrt(2)"),
    ("1/2004!", "1/2006!"),
    ("7", "1=2=7"),
    ("1", "1=2=7"),
    ("\\{1,2\\}", "(1,2)"),
    ("n=1,2,3", "n=2,3,4"),
    ("42", "42 or 43"),
    ("43", "42 or 43"),
    # Numbers.
    ("5", "5 million"),
    ("2", "2 dozen"),
    ("100", "100,000"),
    ("12", "1,2"),
    ("15", "1 5"),
    ("\\pi", "3.14159"),
    ("\\sqrt{2}", "1.414"),
    ("2", "2.0000001"),
    ("0.5", "50"),
    ("10\\%", "0.01"),
    ("52_8", "52"),
    ("52_8", "52_9"),
    ("16:30", "4:30 p.m."),
    ("12:00", "1:00"),
    ("2^{100}", "2^{100}+1"),
    ("\\frac{1}{10^{30}}", "\\frac{1}{10^{31}}"),
    ("1", "1+10^{-20}"),
    ("0", "\\frac{1}{\\infty}"),
    ("9", "2^3=9"),
    ("6", "\\boxed{6},\\boxed{7}"),
    # Letters, words, names.
    ("4t", "4"),
    ("R", "r"),
    ("f'(x)", "f(x)"),
    ("A", "A or B"),
    ("yes", "yes or no"),
    ("x+y=3", "3"),
    ("a+3z=0", "0"),
    ("2x+3", "2y+3"),
    ("x^2+1=0", "x^2+2=0"),
    ("x=1,y=2", "2,1"),
    # Lists, sets, intervals.
    ("(1,2)", "\\{1,2\\}"),
    ("(3,1)", "(1,3)"),
    ("1,2", "(1,2)"),
    ("[1,2]", "(1,2)"),
    ("7", "7, 8"),
    ("\\{1,2\\}", "\\{1,2,3\\}"),
    ("1, 2, 3", "1, 2, 3, \\ldots"),
    ("3 \\pm 2 \\sqrt{2}", "3+2\\sqrt2"),
    ("(0,9) \\cup (9,36)", "(0,36)"),
    ("x>5", "x\\ge5"),
    ("1,234", "1, 234"),
    ("(x,y)=(3,4)", "y=3,x=4"),
    ("(3,4)", "y=3,x=4"),
    ("\\{1,2\\}", "3\\in\\{1,2\\}"),
    ("\\{1,2\\}", "x\\not\\in\\{1,2\\}"),
    ("5", "7\\in 5"),
    # What stands behind a number: another unit, or a word that makes it another number.
    ("5 cm", "5 m"),
    ("5 \\text{ hours}", "5 minutes"),
    ("864 \\mbox{ inches}^2", "864 cubic inches"),
    ("5 miles per hour", "5 feet per second"),
    ("90^\\circ", "90\\text{ radians}"),
    ("\\$5", "5 cents"),
    ("\\$5", "€5"),
    ("2", "2 thirds"),
    ("5", "5 hundredths"),
    ("5", "5 negative"),
    ("5", "5 doubled"),
    ("5", "5 choose two"),
    ("5", "5 theta"),
    ("5", "5 xyz"),
    ("5", "5 log"),
    ("3", "3'"),
    ("0.3", "0.3 repeating"),
    ("0.3", "0.3..."),
    # Products of numbers, which latex2sympy reads as mixed numbers.
    ("5", "2(3)"),
    ("5", "(2)(3)"),
    ("(1,2)", "x=1,x=2"),
    ("2024-01-02", "2021"),
    ("-5", "-2(3)"),
    ("\\sqrt{2}+5", "\\sqrt{2}+2(3)"),
    # Closer than any rounding, and yet another number.
    ("0", "e^{-100}"),
    ("1", "1+e^{-100}"),
    ("\\sqrt{2}", "\\sqrt{2}+e^{-100}"),
    ("\\sqrt{2}", "\\sqrt{2}+10^{-40}"),
    ("x<1/2004!", "x<1/2006!"),
    ("0<x<1/2004!", "0<x<1/2006!"),
    ("(0,\\sqrt2)", "0<x<\\sqrt2+e^{-100}"),
    ("1\\pm 1/2004!", "1\\pm 1/2006!"),
    ("\\{1/2004!\\}", "x=1/2006!"),
    ("\\begin{pmatrix}x+1/2004!\\end{pmatrix}", "\\begin{pmatrix}x+1/2006!\\end{pmatrix}"),
    # Sides that contradict each other.
    ("5", "2+2=5"),
    ("5", "x=2+2=5"),
    ("5", "\\sqrt{4}=5"),
    ("4", "x=3 \\Rightarrow x=4"),
    ("3", "3\\approx 4"),
    ("-5", "+-5"),
    # Letters again.
    ("x'", "x"),
    ("AB", "-AB"),
    ("Ab", "aB"),
    ("xy", "x(y)z"),
    ("f^{-1}(x)", "1/f(x)"),
]
EQUAL = [
    ("120", "5!"),
    ("50\\%", "0.5"),
    ("5000000", "5 million"),
    ("1\\frac{4}{5}", "1.8"),
    ("025", "25"),
    ("$1,234", "1234"),
    ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
    ("\\sqrt{2}", "1.41421356"),
    ("1/3", "0.333333"),
    ("864 \\mbox{ inches}^2", "864 square inches"),
    ("\\frac{270}7\\text{ degrees}", "\\frac{270}{7}^\\circ"),
    ("\\text{Navin}", "Navin"),
    ("\\text{(E)}", "E"),
    ("even", "Even."),
    ("4210_{5}", "4210_5"),
    ("\\text{4:30 p.m.}", "4:30 \\text{ p.m.}"),
    ("x=1,y=2", "1,2"),
    ("y=2x+3", "3+2x"),
    ("42", "x = 42"),
    ("p - q", "-q+p"),
    ("2i", "(1+i)^2"),
    ("e^{i\\pi}", "-1"),
    ("10", "\\binom{5}{2}"),
    ("(x-1)(x+1)", "x^2-1"),
    ("x>5", "(5,\\infty)"),
    ("(5,\\infty)", "x>5"),
    ("(5,-5)", "(x,y)=(5,-5)"),
    ("3, 5, 7", "7, 5, and 3"),
    ("3 \\pm 2 \\sqrt{2}", "3+2\\sqrt2, 3-2\\sqrt2"),
    ("\\{1\\pm\\sqrt{5},-2\\}", "-2, 1+\\sqrt5, 1-\\sqrt5"),
    ("0.1\\overline{6}", "1/6"),
    ("10^-3", "0.001"),
    ("6", "2(3)"),
    ("2\\frac{1}{2}+\\pi", "\\pi+2.5"),
    ("x", "x+0"),
    ("2x", "1x+x"),
    ("10", "\\binom52"),
    ("\\mathbb{R}", "\\mathbb R"),
    ("5 \\text{ cm}", "5 centimeters"),
    ("5 cm^2", "5 square centimeters"),
    ("90^\\circ", "90°"),
    ("5000000", "5 million dollars"),
    ("(3,4)", "y=4, x=3"),
    ("x=3, y=4", "y=4, x=3"),
    ("1/3", "1/3\\approx 0.33"),
    ("5", "x=2+3=5"),
    ("(0,\\sqrt2)", "0<x<\\sqrt2"),
    ("x\\ge3", "x-3\\ge0"),
    ("\\sqrt{2}-1", "\\frac{1}{1+\\sqrt{2}}"),
    ("\\begin{pmatrix} 1/5 \\\\ -2 \\end{pmatrix}", "\\begin{bmatrix} \\frac{1}{5} \\\\ -2 \\end{bmatrix}"),
]


@pytest.mark.parametrize(("gold", "prediction"), DIFFERENT)
def test_what_is_not_the_gold_answer_does_not_pass(verify: Verifier, gold: str, prediction: str) -> None:
    assert verify(gold, prediction).equal is False


@pytest.mark.parametrize(("gold", "prediction"), EQUAL)
def test_the_same_answer_passes_in_another_notation(verify: Verifier, gold: str, prediction: str) -> None:
    assert verify(gold, prediction).equal is True


# What an earlier version refused, by the kinds that were seen: each is right.
REFUSED = {
    "plain ascii": [
        ("2x^2+3x", "2*x**2 + 3*x"),
        ("8", "2^(3)"),
        ("\\sin x+\\cos x", "cos(x) + sin(x)"),
        ("\\ln x", "ln x"),
        ("\\sqrt{2+\\sqrt{3}}", "sqrt(2 + sqrt(3))"),
        ("\\frac{-b+\\sqrt{b^2-4ac}}{2a}", "(-b + sqrt(b^2 - 4*a*c))/(2*a)"),
    ],
    "relations": [
        ("x=1", "1 = x"),
        ("y=2x+1", "2x - y + 1 = 0"),
        ("3x+4y=12", "6x + 8y = 24"),
        ("xy=6", "y = \\frac{6}{x}"),
        ("a+b=c", "c = a+b"),
        ("x\\ge 3", "3 \\le x"),
        ("x>5", "2x > 10"),
        ("-2<x<5", "x > -2 \\text{ and } x < 5"),
        ("(-\\infty,2)\\cup(3,\\infty)", "x < 2 or x > 3"),
        ("x \\equiv 3 \\pmod 7", "x \\equiv 10 \\pmod{7}"),
    ],
    "subscripts": [
        ("x_1+x_2", "x_{2} + x_{1}"),
        ("k_{\\mathrm{B}} T", "k_B T"),
        ("x_1 = 2, x_2 = 3", "x_{1}=2,\\ x_{2}=3"),
        ("a_{12}", "a_12"),
    ],
    "left sides": [
        ("12", "I_{\\max} = 12"),
        ("0.25", "\\Delta p \\approx 0.25"),
        ("\\frac{3}{5}", "P(A \\cap B) = \\frac{3}{5}"),
        ("\\frac13", "\\int_0^1 x^2\\,dx = \\frac13"),
        ("2\\sqrt5", "\\overline{AB} = 2\\sqrt{5}"),
    ],
    "units": [
        ("60 \\text{ km/h}", "60km/h"),
        ("3.4 \\text{ m/s}^2", "3.4\\ \\mathrm{m\\,s^{-2}}"),
        ("25 \\text{ cm}^2", "25cm^2"),
        ("9.8", "9.8 m/s^2"),
        ("1.5 \\text{ N}\\cdot\\text{m}", "1.5\\ \\mathrm{N\\cdot m}"),
        ("\\$15 \\text{ per hour}", "15 dollars per hour"),
    ],
    "degrees in functions": [("\\frac12", "\\sin 30^\\circ"), ("2\\sin 10^\\circ", "2\\cos 80°")],
    "ratios": [
        ("\\frac34", "3:4"),
        ("3:4", "0.75"),
        ("2:3", "4:6"),
        ("2:3:4", "a:b:c = 2:3:4"),
        ("3 \\text{ to } 4", "3:4"),
        ("\\frac{AB}{BC} = \\frac47", "\\frac47"),
    ],
    "brackets": [
        ("1, 2, 3", "[1, 2, 3]"),
        ("[1,2,3]", "(1,2,3)"),
        ("(2,3), (3,2)", "(3,2), (2,3), (2,3)"),
        ("\\{x \\in \\mathbb{R} : x \\ne 0\\}", "(-\\infty,0)\\cup(0,\\infty)"),
    ],
    "units in other sizes": [
        ("0.01 kg", "10 g"),
        ("9.8 N", "9.8 kg m / s^2"),
        ("5 A", "5000 mA"),
        ("36 km/h", "10 m/s"),
        ("1 ft", "12 inches"),
        ("12厘米", "0.12米"),
        ("12平方厘米", "12 cm^2"),
        ("5万元", "50000元"),
    ],
    "approximations behind": [
        ("\\frac{1}{3} \\approx 0.333", "1/3"),
        ("\\frac{1}{3} \\approx 0.333", "0.333"),
        ("\\frac{737}{39}", "\\frac{737}{39}\\;\\text{(about }18.9\\text{ cards)}"),
        ("\\frac13", "\\frac{1}{3}, or approximately $0.333$"),
        ("2\\pi", "2π (≈ 6.28)"),
    ],
    "identities": [
        ("0", "x^2 - x^2"),
        ("1", "sin(x)^2 + cos(x)^2"),
        ("x^2+1", "(x-i)(x+i)"),
        ("2cos(x)", "e^(ix)+e^(-ix)"),
        ("(x+4)(x-3)", "$x^2 + x - 12 = (x - 3)(x + 4)$"),
        ("Abs(x)+y", "|x|+y"),
        ("-1 \\mod 2", "1"),
    ],
    "pieces": [
        ("|x|", "\\begin{cases} x & x \\ge 0 \\\\ -x & x < 0 \\end{cases}"),
        ("|x|", "\\begin{cases} x & \\text{if } x \\ge 0 \\\\ -x & \\text{otherwise} \\end{cases}"),
        ("\\begin{cases} x-2 & x \\ge 2 \\\\ 2-x & x < 2 \\end{cases}", "|x-2|"),
        ("\\begin{cases} x-2 & x \\ge 2 \\\\ 2-x & x < 2 \\end{cases}", "|2-x|"),
        ("f(x)=|x|", "f(x)=\\begin{cases} x & x \\ge 0 \\\\ -x & x < 0 \\end{cases}"),
        ("5", "\\begin{cases} 5 & x > 0 \\\\ 5 & x \\le 0 \\end{cases}"),
    ],
    "antiderivatives": [
        ("e^x+C", "e^x + \\text{const}"),
        ("\\frac{x^3}{3}+C", "\\int x^2\\,dx"),
        ("\\int x^2 dx", "\\frac{x^3}{3}+C"),
        ("x^2+C", "x^2+c"),
        ("x^2+c", "x^2+C"),
        ("x^2+C", "x^2+5+C"),
        ("x^2 + C_1", "x^2+C"),
        ("\\ln|x| + C", "\\ln(5|x|)+C"),
        ("\\sin^2 x + C", "-\\cos^2 x + C"),
        ("\\tfrac12 e^{2x}+C", "C + e^{2x}/2"),
        ("y=x^2+c", "y=x^2+C"),
    ],
    "chinese": [("x=3, x=2", "x=2 或 x=3"), ("3/2", "1又1/2"), ("5千克", "5公斤")],
    "values": [
        ("6", "\\det\\begin{pmatrix}2&0\\\\0&3\\end{pmatrix}"),
        ("-2", "\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}"),
        ("30", "\\sum_{k=1}^{4} k^2"),
        ("e", "\\sum_{n=0}^{\\infty} \\frac{1}{n!}"),
        ("\\frac{d}{dx}\\left(x^3\\right)", "3x^2"),
        ("-1", "e^{i\\pi}"),
        ("2", "\\log 100"),
        ("\\ln(ab)", "\\ln a + \\ln b"),
    ],
}
# What an earlier version let pass: each is wrong.
PASSED = [
    ("2x", "x**2"),
    ("x=1", "1 = 1"),
    ("x+y=3", "3"),
    ("x^2+y^2=4", "4"),
    ("a+b=c", "c"),
    ("x=3", "x^3-27=0"),
    ("x>5", "y>5"),
    ("|x|", "x"),
    ("3:4", "\\frac43"),
    ("20 \\text{ mph}", "20 km/h"),
    ("2.5 million", "2.5 billion"),
    ("I_{\\max}=12", "I_{\\min}=12"),
    ("6", "I_6 = 5"),
    ("\\frac12", "\\sin 30"),
    ("(4,1),(1,4)", "(4,1),(4,1)"),
    ("5 mg", "5 Mg"),
    ("1 W", "1 J"),
    ("1:30", "90"),
    ("1 m", "3.28 ft"),
    ("3 m^2", "300 cm^2"),
    ("5 kg", "5000"),
    ("12 cm", "12 cm^2"),
    ("5 pesos", "\\$5"),
    ("3", "3 of 5"),
    ("7", "the answer is 7 or 8"),
    ("3", "2.5 (about 3)"),
    ("5", "4 or about 5"),
    ("12", "(about 12.3)"),
    ("7", "The answer is 7 + 7."),
    ("x^2", "x^2 = y"),
    ("x+1", "x+1=0"),
    ("(x-1)^2", "x^2-2x+1=(x-1)^2=0"),
    ("0", "x"),
    ("2", "x + y"),
    ("2", "1+1+x-x+y"),
    ("0", "|x|-x"),
    ("1", "\\lfloor x \\rfloor"),
    ("0", "\\sin x"),
    ("0", "\\sin(n\\pi)"),
    ("0", "x-\\sqrt{x^2}"),
    ("x", "\\sqrt{x^2}"),
    ("18 eggs", "18 chickens"),
    ("3千米", "3千克"),
    ("12,5", "12.5"),
    ("5厘米", "5平方厘米"),
    ("3小时", "3分钟"),
    ("3又1/2", "3"),
    ("5千克", "5厘米"),
    ("|x|", "\\begin{cases} x & x \\ge 1 \\\\ -x & x < 1 \\end{cases}"),
    ("|x|", "\\begin{cases} -x & x \\ge 0 \\\\ x & x < 0 \\end{cases}"),
    ("\\begin{cases} x-2 & x \\ge 20 \\\\ 2-x & x < 20 \\end{cases}", "|2-x|"),
    ("x", "\\begin{cases} x & x > 0 \\\\ 2x & x \\le 0 \\end{cases}"),
    ("|x|", "\\begin{cases} x & x > 0 \\\\ -x & x < 0 \\end{cases}"),
    ("\\int x^2 dx", "\\frac{x^2}{3}+C"),
    ("x^2+C", "x^2"),
    ("x^2", "x^2+C"),
    ("\\ln|x| + C", "\\frac1x + C"),
    ("ax+c", "ax+C"),
    ("x+c", "x+k"),
    ("5个", "5只"),
    ("5万", "5"),
    ("18 eggs", "18 apples"),
    ("5 hours", "5 eggs"),
    ("2 h", "120 seconds"),
    ("1 ft", "12 cm"),
    ("\\$5", "5 cents"),
    ("\\frac{1}{3} \\approx 0.333", "0.33"),
    ("1", "sin(x)^2 - cos(x)^2"),
    ("2sin(x)", "e^(ix)+e^(-ix)"),
    ("(x+4)(x-3)", "$x^2 + x - 11 = (x - 3)(x + 4)$"),
    ("5", "5 + x - x = 5"),
    ("\\pi \\approx 3.14", "3.15"),
]
SAID = [
    ("Die Antwort ist $42$.", "42", True),
    ("Daher beträgt die Gesamtzahl 15 Äpfel.", "15", True),
    ("所以答案是3。", "3", True),
    ("정답은 100입니다.", "100", True),
    ("Ответ: 12", "12", True),
    ("So there are 18 eggs left.", "18", True),
    ("The roots are $\\boxed{2}$ and $\\boxed{3}$.", "2, 3", True),
    ("x = \\boxed{2} \\quad y = \\boxed{3}", "2, 3", True),
    ("2*x**2 + 3*x", "2x^2+3x", True),
    ("so x = 2*sqrt(3)", "2\\sqrt3", True),
    ("Yes, the series converges.", "\\text{Yes}", True),
    ("x**2 + 4", "4", False),
    ("sqrt(x) + 4", "4", False),
    ("The answer cannot be determined from the 5 given conditions.", "5", False),
    ("I tried 5 methods and failed.", "5", False),
    ("There is no solution, because the sum would have to be larger than 10.", "10", False),
    ("Step 1: define the variables.", "1", False),
    ("First, there are 12 months in a year. " + "We go on and on. " * 20 + "So the rate is 12*4 - 7", "7", False),
    ('Therefore the answer is 7. This took 3 steps.', '7', True),
    ('Therefore the answer is 7. This took 3 steps.', '3', False),
    ('The answer is 7.5. This took 5 steps.', '5', False),
    ('The answer is 7.5. This took 5 steps.', '7.5', True),
    ('The answer is 7. However, that is wrong. It should be 8.', '8', True),
    ('The answer is 7. However, that is wrong. It should be 8.', '7', False),
    ('The answer is 7. No. It is 8.', '7', False),
    ('The answer is 7. No. It is 8.', '8', True),
    ('First \\boxed{3}, on reflection \\boxed{4}.', '4', True),
    ('First \\boxed{3}, on reflection \\boxed{4}.', '3', False),
    ('first attempt \\boxed{wrong}, final \\boxed{42}', '42', True),
    ('x = \\boxed{2}, y = \\boxed{3}', '2,3', True),
    ('The roots are $\\boxed{2}$ and $\\boxed{3}$.', '2,3', True),
    ('The answer is 3 — no, wait, 4.', '4', True),
    ('The answer is 3 — no, wait, 4.', '3', False),
    ('The answer is 3. Wait, no, it is 4.', '4', True),
    ('The answer is 3. Wait, no, it is 4.', '3', False),
    ('The answer is 5. Wait, let me check the 6 cases.', '5', False),
    ('The answer is 5. Wait, let me check the 6 cases.', '6', False),
    ('So it is 5. Wait, the problem says there are 12 months.', '12', False),
    ('We factor: $x^2 - 2x - 8 = (x-4)(x+2)$.\n\nSetting each factor to zero, so x = 4 or x = -2.', '-2, 4', True),
    ('We factor: $x^2 - 2x - 8 = (x-4)(x+2)$.\n\nSetting each factor to zero, so x = 4 or x = -2.', '-2', False),
    ('We have $f(-x) = -x^3 = -f(x)$ for all x.\n\nYes, it is odd.', '\\text{Yes}', True),
    ('We have $f(-x) = -x^3 = -f(x)$ for all x.\n\nYes, it is odd.', '\\text{No}', False),
    ('$91 = 7\\cdot 13$.\n\nNo, 91 is not prime.', '\\text{No}', True),
    ("So the median is **5**.\n\nLet me know if you'd like me to compute the mean (5.2) as well!", '5', True),
    ("So the median is **5**.\n\nLet me know if you'd like me to compute the mean (5.2) as well!", '5.2', False),
    ('3 batches need 9/4 cups.\n\nSo you need $2\\frac{1}{4}$ cups of sugar.', '\\frac{9}{4}', True),
    ('Therefore, yes.', 'Yes', True),
    ('So the answer is yes, since 3 divides 9.', 'Yes', True),
    ('Answer: No, because 7 is prime.', 'No', True),
    ('Answer: No, because 7 is prime.', '7', False),
    ('The answer is 5. Sorry, the answer is 7.', '7', True),
    ('The answer is 5. Sorry, the answer is 7.', '5', False),
    ('x = 5? No, x = 7.', '7', True),
    ('Answer: No, because 7 is prime.', 'Yes', False),
    ('**Answer:** 18. Note that 20 would be too many.', '18', True),
    ('**Answer:** 18. Note that 20 would be too many.', '20', False),
    ('So the final answer is $18$. I used 2 methods to check.', '18', True),
    ('Thus there are 18 ways in total. (We counted 4 cases.)', '18', True),
    ('Thus there are 18 ways in total. (We counted 4 cases.)', '4', False),
    ('I first got 5. Actually, it is 7.', '7', True),
    ('I first got 5. Actually, it is 7.', '5', False),
    ('The answer is 5... no, 7.', '7', True),
    ('The answer is 5... no, 7.', '5', False),
    ('The answer is 5. Correction: 7.', '7', True),
    ('Now you need to divide by 5.', '5', False),
    ('Is it 7? No, it is 8.', '8', True),
    ('答案是7。这用了3步。', '3', False),
    ('答案是7。这用了3步。', '7', True),
    ('The answer is given by adding. The sum is 12.', '12', True),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "prediction"), [pair for pairs in REFUSED.values() for pair in pairs])
def test_mathematics_is_compared_and_not_its_spelling(verify: Verifier, gold: str, prediction: str) -> None:
    assert verify(gold, prediction).equal is True


@pytest.mark.parametrize(("gold", "prediction"), PASSED)
def test_what_only_looks_like_the_gold_answer_does_not_pass(verify: Verifier, gold: str, prediction: str) -> None:
    assert verify(gold, prediction).equal is False


@pytest.mark.parametrize(("response", "gold", "right"), SAID)
def test_a_response_is_read_where_it_states_its_answer(verify: Verifier, response: str, gold: str, right: bool) -> None:
    assert verify(gold, anywhere(response)).equal is right
