"""Pages of the site that are files of the repository: their links lead from there to here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

import gatepo

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "conf/README.md": "settings.md",
    "experiments/README.md": "experiments.md",
    "sweeps/README.md": "sweeps.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the repository's own files."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_linked(text, Path(source).parent)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository into those to pages; list what ``import gatepo`` gives."""
    if page.file.src_uri == "api.md":
        names = (f"::: gatepo.{home}.{name}" for home, found in gatepo._HOMES.items() for name in found)
        return "\n\n".join([markdown, *names])
    return markdown if page.file.src_uri in PAGES.values() else _linked(markdown, Path("docs"))


def _linked(text: str, folder: Path) -> str:
    """Lead links to where the site has what they name; what it has not keeps its name alone."""

    def turned(found: re.Match[str]) -> str:
        words, name, anchor = found[1], found[2], found[3] or ""
        target = (ROOT / folder / name).resolve().relative_to(ROOT).as_posix()
        if target in PAGES:
            return f"[{words}]({PAGES[target]}{anchor})"
        if target.startswith("docs/"):
            return f"[{words}]({target.removeprefix('docs/')}{anchor})"
        return words

    return LINK.sub(turned, text)
