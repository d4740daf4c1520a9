"""The commands of gatepo: ``python -m gatepo`` lists them."""

from __future__ import annotations

import ast
from pathlib import Path

COMMANDS = ("train", "evaluate", "probe", "gates", "plan", "report", "study", "dashboard", "replay", "verify")


def main() -> None:
    """Print each command with the first line of what it says of itself; nothing is imported for that."""
    for command in COMMANDS:
        print(f"python -m gatepo.{command:<9} {_summary(command)}")
    print("\npython -m gatepo.COMMAND --help says more; docs/running.md shows them at work.")


def _summary(command: str) -> str:
    folder = Path(__file__).parent
    file = folder / f"{command}.py"
    text = (file if file.is_file() else folder / command / "__main__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


if __name__ == "__main__":
    main()
