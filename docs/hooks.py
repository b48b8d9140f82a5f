"""What mkdocs calls while it builds the site: pages of files outside docs/, and text that is generated from the code.

A page may hold these comments, each on a line of its own:

    <!-- help: train -->           the text of `python -m hybrid_vit.train --help`, from conf/train.yaml
    <!-- keys: Train.optim -->     a table of keys, from the dataclasses of hybrid_vit/config/schema.py; the defaults
                                   are those of the command when nothing is set, the meanings from reference/keys.yaml
    <!-- keys: Hybrid model. -->   the same, with the defaults of the dataclass and a prefix
    <!-- file: conf/train.yaml --> the content of a file

A link from docs/ to a file elsewhere in the repository works on the site too: Markdown becomes a page, a source file a
page that shows it, and any other file is copied.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from os.path import relpath
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import yaml
from omegaconf import OmegaConf

from hybrid_vit.cli.command import help_page
from hybrid_vit.config import schema
from hybrid_vit.config.compose import compose_config

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COMMENT = re.compile(r"^<!-- (help|keys|file): (.+?) -->$", re.MULTILINE)
LINK = re.compile(r"^```.*?^```|(?<=\]\()([^)\s]+)(?=\))", re.MULTILINE | re.DOTALL)  # but not in a block of code
FOLDER_LINK = re.compile(r"^```.*?^```|\[([^\]]*)\]\(([^)\s#]+)\)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".yaml": "yaml", ".py": "python"}
COMMANDS = {kind: name for name, kind in schema.SCHEMAS.items() if (ROOT / "conf" / f"{name}.yaml").is_file()}


def on_files(files: "Files", *, config: "MkDocsConfig") -> "Files":
    """Add the files outside docs/ that the navigation names or a page links to."""
    from mkdocs.structure.files import File

    pages = [ROOT / name for name in named(config.nav) if not (DOCS / name).exists()]
    for path in outside([*pages, *(DOCS / file.src_uri for file in files.documentation_pages())]):
        content = {"content": source_page(path)} if path.suffix in LANGUAGES else {"abs_src_path": str(path)}
        files.append(File.generated(config, site_name(path), **content))
    return files


def on_page_markdown(markdown: str, *, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Replace the comments, and lead links to files outside docs/ to where these are in the site."""
    name = page.file.src_uri
    return relinked(COMMENT.sub(generated, markdown), DOCS / name if (DOCS / name).exists() else ROOT / name)


def on_page_content(html: str, *, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Links of a notebook to other pages, which its plugin leaves as they are."""
    notebook = page.file.src_uri.endswith(".ipynb")
    return re.sub(r'href="([^":#]+)\.md(?=["#])', r'href="\1.html', html) if notebook else html


def named(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from named(part)


def outside(pages: list[Path]) -> list[Path]:
    """The files outside docs/ among some pages and what these link to, directly or by further pages."""
    waiting, found = [*pages], {page for page in pages if not page.is_relative_to(DOCS)}
    while waiting:
        page = waiting.pop()
        for target in filter(None, LINK.findall(page.read_text(encoding="utf-8"))):
            path = linked(target, page)
            if path and path.is_file() and not path.is_relative_to(DOCS) and path not in found:
                found.add(path)
                waiting += [path] * (path.suffix == ".md")
    return sorted(found)


def linked(target: str, page: Path) -> Path | None:
    """The file or folder of the repository that a link on a page leads to."""
    name = target.partition("#")[0]
    return (page.parent / name).resolve() if name and "://" not in name else None


def site_name(path: Path) -> str:
    """The name that mkdocs knows a file by: that in docs/, or that in the repository."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    return path.relative_to(ROOT).as_posix() + ".md" * (path.suffix in LANGUAGES)


def relinked(markdown: str, page: Path) -> str:
    """Markdown whose links lead to where the files are in the site; of a link to a folder, the text is left."""

    def moved(match: re.Match[str]) -> str:
        path = linked(match[1], page) if match[1] else None
        if not path or not path.is_file():
            return match[0]
        return relpath(site_name(path), Path(site_name(page)).parent) + "".join(match[1].partition("#")[1:])

    def unlinked(match: re.Match[str]) -> str:
        path = linked(match[2], page) if match[2] else None
        return match[1] if path and path.is_dir() else match[0]

    return LINK.sub(moved, FOLDER_LINK.sub(unlinked, markdown))


def source_page(path: Path) -> str:
    """A page that shows a source file; the search leaves it out."""
    name = path.relative_to(ROOT).as_posix()
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n{generated_file(name)}"


def generated(comment: re.Match[str]) -> str:
    """What a comment stands for."""
    kind, argument = comment.groups()
    if kind == "help":
        return f"```text\n{help_page(argument)}\n```"
    return generated_file(argument) if kind == "file" else generated_table(argument)


def generated_file(name: str) -> str:
    path = ROOT / name
    return f"```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8').rstrip()}\n```"


def generated_table(argument: str) -> str:
    """A row for each key: its meaning, its type, its default, and what is allowed."""
    name, _, prefix = argument.partition(" ")
    name, *groups = name.split(".")
    kind = getattr(schema, name)
    values = composed(kind) if kind in COMMANDS else {}
    for group in groups:
        kind = next(part.type for part in fields(kind) if part.name == group)
        values, prefix = values[group], f"{prefix}{group}."
    rows = [f"| `{prefix}{key}` | {' | '.join(cells)} |" for key, *cells in keys(kind, values)]
    return "\n".join(["| key | meaning | type | default | allowed |", "|---|---|---|---|---|", *rows])


def composed(kind: type) -> Any:
    """The configuration of a command when nothing is set."""
    return OmegaConf.to_container(compose_config([], COMMANDS[kind]), resolve=False)


@functools.cache
def meanings() -> dict[str, dict[str, str]]:
    return yaml.safe_load((DOCS / "reference" / "keys.yaml").read_text(encoding="utf-8"))


def own_keys(kind: type) -> list[Field[Any]]:
    """The keys of a dataclass but for those of its base, and those that have keys themselves."""
    own = [part for part in fields(kind) if part.name in kind.__annotations__ and part.name != "_target_"]
    return [part for part in own if not is_dataclass(part.type)]


def keys(kind: type, values: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Name, meaning, type, default and allowed values of each key of a dataclass."""
    for part in own_keys(kind):
        default = part.default if part.default_factory is MISSING else part.default_factory()
        allowed = part.metadata.get("allowed", "")
        choices = ", ".join(f"`{choice}`" for choice in allowed) if isinstance(allowed, tuple) else allowed
        meaning = meanings()[kind.__name__][part.name]
        yield part.name, meaning, type_name(part.type), written(values.get(part.name, default)), choices


def type_name(kind: Any) -> str:
    """list[int] | None -> 'list of int or null'"""
    if isinstance(kind, UnionType):
        return " or ".join(map(type_name, get_args(kind)))
    if get_origin(kind) is list and get_args(kind) != (Any,):
        return f"list of {type_name(*get_args(kind))}"
    return {NoneType: "null", Any: "any"}.get(kind) or (get_origin(kind) or kind).__name__


def written(value: Any) -> str:
    """A default as on the command line; nothing for one that is not fixed, and for a group of keys."""
    if value in ("???", MISSING) or isinstance(value, dict):
        return ""
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    if value is None or isinstance(value, bool):
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    value = re.sub(r"\$\{(hydra:runtime\.choices\.|now:|)(\w*)[^}]*\}", placeholder, str(value))
    return f"`{value}`"


def placeholder(interpolation: re.Match[str]) -> str:
    """What is known when the command runs: TIME, or the name of an option, such as MODEL; a key stays as it is."""
    kind, name = interpolation.groups()
    return {"now:": "TIME", "": interpolation[0]}.get(kind, name.upper())
