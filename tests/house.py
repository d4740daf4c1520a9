"""How well the house is kept: what is counted, the number now, and its limit.

    python tests/house.py [ROOT]

It reads gatepo/ and conf/ under ROOT (this repository) as text, imports nothing of them, and exits with 1 where a limit
is broken, after naming each offender as file:line. A count whose limit is not given below has the limit 0.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterable, Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, NamedTuple

WING = ("gatepo/schema.py", "gatepo/settings.py", "gatepo/rules.py", "gatepo/config.py", "gatepo/build.py")
WING_LINES = 1_050
SETTING_LINES = 8
FILE_LINES = 400
FUNCTION_LINES = 60
WORDS = ("mend", "mends", "tell", "tells", "told", "hear", "hears", "till")  # and ", say" for "e.g."
WORDS_AS_DATA = {
    ("gatepo/rewards/units.py", "till"),  # a word that a model's answer may contain
    *(("gatepo/report/verdict.py", word) for word in ("tell", "told")),  # a verdict is "cannot be told"
}
# Lowest first. A name stands for a module, or for a package and all in it unless a longer name says otherwise.
LAYERS = (
    (
        *(
            "errors",
            "settings",
            "targets",
            "stopwatch",
            "memory",
            "json_lines",
            "durable",
            "manifest",
            "claim",
            "text_table",
            "measures",
        ),
        *("signals", "run_folder", "numbers", "collector"),
        *("launch.environment", "launch.settings", "launch.slurm", "journal"),
    ),
    ("products",),
    ("objective", "logprobs"),
    ("formulas",),
    ("types",),
    (
        *("rewards", "data", "tiny", "model", "world", "engine", "rollout", "tracking", "evaluate.loop", "hub"),
        *("state", "checkpoint", "metrics", "controllers", "integrations"),
    ),
    ("loop",),
    ("of_model", "schema", "rules", "remarks", "config", "presets", "build"),
    ("lazy_torch", "from_trl", "slips", "overrides", "reference", "help", "cli"),
    (
        *("preflight", "following", "record", "model_card", "run", "resume", "evaluate", "probe", "plan", "gates"),
        *("report", "dashboard", "verify"),
    ),
    ("train", "replay", "launch", "study", "__main__", "gatepo"),
)
# The name of a library, or of another's setting, and not of the option that is called alike.
LIBRARIES = {("gatepo/lazy_torch.py", "torch"), ("gatepo/from_trl.py", "deepspeed")}
ROOMS = {"rollout": "gatepo/rollout/", "engine": "gatepo/engine/", "tracker": "gatepo/tracking/"}  # group: its code
Defaults = dict[str, float | str | None]
Option = tuple[str, str, Defaults]  # group, name, defaults
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


class Count(NamedTuple):
    """One line of the table."""

    what: str
    number: int
    limit: int | None = 0
    offenders: Iterable[str] = ()
    of: int | None = None  # how many there are to count among


def each(what: str, offenders: Iterable[str], of: int | None = None) -> Count:
    """The count of what should not be there at all."""
    found = list(offenders)
    return Count(what, len(found), 0, found, of)


class Source(NamedTuple):
    """One file of gatepo/."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def at(self, line: int, words: str) -> str:
        return f"{self.path}:{line}: {words}"

    def nodes(self, *kinds: type) -> list[Any]:
        found = (node for node in ast.walk(self.tree) if isinstance(node, kinds))
        return sorted(found, key=lambda node: getattr(node, "lineno", 0))


def length(node: Any) -> int:
    """Physical lines, from def to end."""
    return node.end_lineno - node.lineno + 1


def last_name(node: Any) -> str:
    """Of what is called, or decorates: ``setting`` in ``settings.setting(...)``."""
    node = node.func if isinstance(node, ast.Call) else node
    return getattr(node, "attr", getattr(node, "id", ""))


def configuration(sources: list[Source]) -> list[Count]:
    files = {f"{source.path}:1": source.text.count("\n") for source in sources if source.path in WING}
    others = [(s, node) for s in sources if s.path not in WING for node in s.nodes(ast.ClassDef)]
    fields = {f"{s.path}:{field.lineno}": length(field) for s, node in others for field in settings(node)}
    inside, long = sum(files.values()), [place for place, lines in fields.items() if lines > SETTING_LINES]
    return [
        each("configuration files listed and absent", [f"{path}:1" for path in WING if f"{path}:1" not in files]),
        Count(
            "lines of the configuration files",
            inside,
            WING_LINES,
            [f"{place}: {lines} lines" for place, lines in files.items()],
        ),
        each(f"settings elsewhere of more than {SETTING_LINES} lines", long, len(fields)),
        Count("lines of settings elsewhere, in options' rooms", sum(fields.values()), None),
    ]


def sizes(sources: list[Source]) -> list[Count]:
    functions = [(s, node) for s in sources for node in s.nodes(*FUNCTION)]
    files = [(s, s.text.count("\n")) for s in sources]
    large = [s.at(FILE_LINES + 1, f"{lines} lines") for s, lines in files if lines > FILE_LINES]
    long = [s.at(n.lineno, f"{n.name} has {length(n)} lines") for s, n in functions if length(n) > FUNCTION_LINES]
    return [
        Count("lines of the longest file", max((lines for _, lines in files), default=0), FILE_LINES, large),
        each(f"functions over {FUNCTION_LINES} lines", long, len(functions)),
        Count("lines of the median function", int(statistics.median([length(n) for _, n in functions] or [0])), None),
    ]


class Arrow(NamedTuple):
    """One module of gatepo imports another."""

    source: Source
    target: str
    line: int
    place: str  # of the statement: module, function or typing

    def __str__(self) -> str:
        return self.source.at(self.line, f"imports {self.target}")


def imports(node: ast.AST, place: str = "module") -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """The import statements below a node, each with its place."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, place
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imports(child, "typing")
        else:
            yield from imports(child, "function" if isinstance(child, FUNCTION) else place)


def arrows(sources: list[Source]) -> list[Arrow]:
    modules, found = {source.module for source in sources}, []
    for source in sources:
        home = source.module if source.path.endswith("/__init__.py") else source.module.rpartition(".")[0]
        for node, place in imports(source.tree):
            base = "" if isinstance(node, ast.Import) else resolve_name("." * node.level + (node.module or ""), home)
            names = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
            targets = {name if name in modules else base for name in names} & modules
            found += [Arrow(source, target, node.lineno, place) for target in sorted(targets)]
    return found


def on_a_cycle(known: list[Arrow]) -> list[Arrow]:
    """The imports whose target leads back to where they stand."""
    leads_to: dict[str, set[str]] = {arrow.source.module: set() for arrow in known}
    for arrow in known:
        leads_to[arrow.source.module].add(arrow.target)
    for middle in leads_to:
        for reached in leads_to.values():
            reached |= leads_to[middle] if middle in reached else set()
    return [arrow for arrow in known if arrow.source.module in leads_to.get(arrow.target, ())]


def cycles(known: list[Arrow]) -> list[Count]:
    """Each line counts what it adds to those above it."""
    counts, places, named = [], set(), set()
    for place, words in (("module", "at module level"), ("function", "in functions"), ("typing", "for typing")):
        places.add(place)
        found = [str(arrow) for arrow in on_a_cycle([arrow for arrow in known if arrow.place in places])]
        counts.append(each(f"imports on a cycle, {words}", [arrow for arrow in found if arrow not in named]))
        named.update(found)
    return counts


def layer(module: str) -> int:
    """Where LAYERS has it, by the longest name that fits; -1 where none does."""
    parts = module.removeprefix("gatepo.").split(".")
    names = [".".join(parts[:size]) for size in range(len(parts), 0, -1)]
    return next((at for name in names for at, group in enumerate(LAYERS) if name in group), -1)


def order(sources: list[Source], known: list[Arrow]) -> list[Count]:
    heights = {source.module: layer(source.module) for source in sources}
    up = [arrow for arrow in known if 0 <= heights[arrow.source.module] < heights[arrow.target]]
    return [
        each("modules in no layer", [s.at(1, s.module) for s in sources if heights[s.module] < 0], len(sources)),
        each("imports from a higher layer", [str(arrow) for arrow in up if arrow.place != "function"]),
        each("imports from a higher layer, in functions", [str(arrow) for arrow in up if arrow.place == "function"]),
    ]


def public(node: ast.AST, prefix: str = "") -> Iterator[tuple[Any, str]]:
    """The classes, functions, methods and properties below a module or class, each with its dotted name."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.ClassDef, *FUNCTION)):
            yield from public(child, prefix)  # what stands under an ``if``
        elif not child.name.startswith("_"):
            if not {last_name(decorator) for decorator in child.decorator_list} & {"overload", "setter", "deleter"}:
                yield child, prefix + child.name
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{prefix}{child.name}.")


def docstrings(sources: list[Source]) -> Count:
    """Those of a command's ``__main__`` count: it is what a user runs."""
    seen = [s for s in sources if not any(part.startswith("_") for part in s.module.replace("__main__", "").split("."))]
    names = [(s, node, name) for s in seen for node, name in [(s.tree, s.module), *public(s.tree)]]
    bare = [s.at(getattr(node, "lineno", 1), name) for s, node, name in names if not ast.get_docstring(node)]
    return each("public names without a docstring", bare, len(names))


def english(sources: list[Source]) -> Count:
    written = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", None)}
    unused, found = re.compile(rf"\b(?:{'|'.join(WORDS)})\b|, say(?=[^\w\s]|$)", re.IGNORECASE), []
    for source in sources:
        tokens = tokenize.generate_tokens(io.StringIO(source.text).readline)
        for token, match in [(t, match) for t in tokens if t.type in written for match in unused.finditer(t.string)]:
            if (source.path, match[0].lower()) not in WORDS_AS_DATA:
                found.append(source.at(token.start[0] + token.string.count("\n", 0, match.start()), f'"{match[0]}"'))
    return each("words that the house does not use", found)


def settings(node: ast.ClassDef) -> list[Any]:
    """Its statements ``name: type = setting(...)``."""
    calls = [s for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.value, ast.Call)]
    return [statement for statement in calls if last_name(statement.value) == "setting"]


def default(call: ast.Call) -> float | str | None:
    """A number or a text that is not empty; None for any other default."""
    given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "default")]
    try:
        found = ast.literal_eval(given[0])
    except (IndexError, ValueError):
        return None
    return found if type(found) in (int, float, str) and found != "" else None


def defaults(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Defaults:
    """Those of its settings, and of the settings that it inherits."""
    bases = [classes.get(last_name(base), node) for base in reversed(node.bases)]
    inherited = [item for base in bases if base is not node for item in defaults(base, classes).items()]
    return dict(inherited) | {statement.target.id: default(statement.value) for statement in settings(node)}


def options(sources: list[Source]) -> Iterator[Option]:
    """Of each class under ``@option("GROUP", "NAME")``."""
    everywhere = {node.name: node for source in sources for node in source.nodes(ast.ClassDef)}
    for source in sources:
        classes = everywhere | {node.name: node for node in source.nodes(ast.ClassDef)}
        for node in source.nodes(ast.ClassDef):
            for mark in [mark for mark in node.decorator_list if last_name(mark) == "option"]:
                group, name = ast.literal_eval(ast.Tuple(mark.args, ast.Load()))
                yield group, name, defaults(node, classes)


def value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip("'\"`")


def said_again(sources: list[Source]) -> Iterator[str]:
    """Texts of gatepo/ that name a default of any setting, as "0.2 is the default" or "uses 0.2"."""
    classes = [node for source in sources for node in source.nodes(ast.ClassDef)]
    known = {default(statement.value) for node in classes for statement in settings(node)}
    for source, node in [(s, node) for s in sources for node in s.nodes(ast.Constant)]:
        for match in re.findall(r"(\S+) is the default|\buses (\S+)", str(node.value)):
            word = "".join(match).strip("()[],;:").removesuffix(".")
            if value(word) in known:
                yield source.at(node.lineno, f"says again that {word} is a default")


def presets(path: Path, conf: Path) -> Iterator[tuple[int, str, str, float | str]]:
    """Line, group, key and value of each setting of a YAML file, lists left out."""
    text = path.read_text(encoding="utf-8")
    above = [(-1, "" if "@package _global_" in text else path.parent.relative_to(conf).as_posix())]
    for line, words in enumerate(text.splitlines(), 1):
        if found := re.match(r"( *)(\w+):\s*(.*?)\s*(?:(?<!\S)#.*)?$", words):
            above = [(indent, name) for indent, name in above if indent < len(found[1])]
            if found[3]:
                yield line, "/".join(name for _, name in above if name.strip(".")), found[2], value(found[3])
            above.append((len(found[1]), found[2]))


def set_again(root: Path, known: list[Option]) -> Iterator[str]:
    """Settings of conf/ that are the default of the option of that name, or of any of the group where none has it."""
    for path in sorted((root / "conf").rglob("*.yaml")):
        given = list(presets(path, root / "conf"))
        names = {group: word for _, group, key, word in given if key == "name"}
        for line, group, key, word in given:
            members = [(name, fields) for of, name, fields in known if of == group]
            named = [member for member in members if member[0] == names.get(group, path.stem)]
            if any(fields.get(key) == word for _, fields in named or members):
                yield f"{path.relative_to(root).as_posix()}:{line}: sets {key} to its default"


def mentions(node: ast.AST, names: set[str]) -> list[Any]:
    """The names that a node compares with or looks up; itself where it probes: getattr(x.engine, "y")."""
    words: Iterable[Any] = ()
    match node:
        case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[of, ast.Constant(), *_]) if last_name(of) in ROOMS:
            return [node]
        case ast.Compare(left=left, comparators=others):
            words = (word for side in (left, *others) for word in getattr(side, "elts", [side]))
        case ast.MatchValue(value=pattern):
            words = [pattern]
        case ast.Dict(keys=keys) | ast.MatchMapping(keys=keys):
            words = keys
    return [word for word in words if getattr(word, "value", None) in names]


def implementations(sources: list[Source], root: Path, known: list[Option]) -> Count:
    names = {path.stem for group in ROOMS for path in (root / "conf" / group).glob("*.yaml")}
    names = (names | {name for group, name, _ in known if group in ROOMS}) - {"none"}
    outside = [source for source in sources if not source.path.startswith(tuple(ROOMS.values()))]
    found = [(s, word) for s in outside for node in s.nodes(ast.AST) for word in mentions(node, names)]
    found = [(s, word) for s, word in found if (s.path, getattr(word, "value", "")) not in LIBRARIES]
    return each("implementations named outside their room", [s.at(word.lineno, ast.unparse(word)) for s, word in found])


def counts(root: Path) -> list[Count]:
    texts = {p.relative_to(root).as_posix(): p.read_text("utf-8") for p in sorted((root / "gatepo").rglob("*.py"))}
    sources = [Source(path, text, ast.parse(text, path)) for path, text in texts.items()]
    known, found = arrows(sources), list(options(sources))
    return [
        *(configuration(sources) + sizes(sources) + cycles(known) + order(sources, known)),
        *(docstrings(sources), implementations(sources, root, found)),
        each("defaults that are written twice", [*said_again(sources), *set_again(root, found)]),
        english(sources),
    ]


def main(root: Path) -> int:
    table = counts(root)
    print(f"{'what is counted':46}{'number':>12}{'limit':>8}")
    for count in table:
        number = f"{count.number:,}" if count.of is None else f"{count.number:,} of {count.of:,}"
        print(f"{count.what:46}{number:>12}{'-' if count.limit is None else f'{count.limit:,}':>8}")
    broken = [count for count in table if count.limit is not None and count.number > count.limit]
    for count in broken:
        print(f"\n{count.what}: {count.number:,}, limit {count.limit:,}", *count.offenders, sep="\n  ")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1]))
