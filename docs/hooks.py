"""Pages of the site that are files of the repository, notebooks among them: their links lead from there to here."""

from __future__ import annotations

import json
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
NOTEBOOKS = {
    f"notebooks/{path.name}": f"notebook-{path.stem}.md" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the repository's own files."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_linked(text, Path(source).parent)))
    for source, page in NOTEBOOKS.items():
        files.append(File.generated(config, page, content=_of_notebook(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository into those to pages; list what ``import gatepo`` gives."""
    if page.file.src_uri == "api.md":
        names = (f"::: gatepo.{home}.{name}" for home, found in gatepo._HOMES.items() for name in found)
        return "\n\n".join([markdown, *names])
    return markdown if page.file.src_uri in (PAGES | NOTEBOOKS).values() else _linked(markdown, Path("docs"))


def _linked(text: str, folder: Path) -> str:
    """Lead links to where the site has what they name; what it has not keeps its name alone."""

    def turned(found: re.Match[str]) -> str:
        words, name, anchor = found[1], found[2], found[3] or ""
        target = (ROOT / folder / name).resolve().relative_to(ROOT).as_posix()
        if target in PAGES | NOTEBOOKS:
            return f"[{words}]({(PAGES | NOTEBOOKS)[target]}{anchor})"
        if target.startswith("docs/"):
            return f"[{words}]({target.removeprefix('docs/')}{anchor})"
        return words

    return LINK.sub(turned, text)


def _of_notebook(source: str) -> str:
    """Give a notebook's cells as a page; it is committed without what they print."""
    parts = []
    for cell in json.loads((ROOT / source).read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    parts.insert(1, f"This page is `{source}` of the repository, to be run in Jupyter.")
    return "\n\n".join(parts)
