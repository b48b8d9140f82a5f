"""The page: a study and its pictures -> report.md, and report.html made of it, with everything inside one file."""

import base64
import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import jinja2
import markdown  # type: ignore[import-untyped]
import pandas as pd
from markdown.treeprocessors import Treeprocessor  # type: ignore[import-untyped]
from markdown.util import AtomicString  # type: ignore[import-untyped]
from markupsafe import Markup, escape  # jinja2's

from hybrid_vit.evaluation.statistics import ENOUGH, Comparison, Estimate, estimate
from hybrid_vit.studies.report.checks import commit, in_turn, versions, warnings
from hybrid_vit.studies.report.claims import shown_p, written
from hybrid_vit.studies.report.figures import Picture
from hybrid_vit.studies.report.records import Configuration
from hybrid_vit.studies.report.study import Study, comparisons_table, settings_table
from hybrid_vit.utils.files import write_text
from hybrid_vit.utils.tables import markdown_table

HERE = Path(__file__).parent
FILES = ("runs.csv", "comparisons.csv")  # beside the page, which links to them
STYLE = """
:root { color-scheme: light dark; --ink: #333; --paper: #fff; --line: #e4e4e4; --code: #f6f6f6; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #1a1a1a; --line: #3a3a3a; --code: #262626; --link: #8ab8f0; }
  .picture img { filter: invert(.9) hue-rotate(180deg); }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
body { max-width: 62rem; margin: 0 auto; padding: 1rem; }
a { color: var(--link); }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h1 { font-size: 1.6rem; margin: 0 0 .6rem; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .85rem; max-width: 100%; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
td { font-variant-numeric: tabular-nums; }
code { overflow-wrap: anywhere; } pre { background: var(--code); padding: .8rem; overflow-x: auto; }
.picture { overflow-x: auto; } .picture img { display: block; max-width: 100%; }
@media (max-width: 50rem) { .picture:not(.first) img { width: 46rem; max-width: none; } }
"""


def write(
    study: Study,
    pictures: Sequence[Picture],
    overlays: pd.DataFrame,
    out: Path,
    *,
    title: str,
    note: str,
    command: str | None,
    made: str,
) -> None:
    """Write report.md and report.html into `out`, where the pictures are.

    Args:
        study: what is reported.
        pictures: those to show, in order.
        overlays: how far runs and published curves are apart; shown under the picture of them.
        out: the directory.
        title: of the page.
        note: Markdown that opens it.
        command: what repeats the runs, or nothing.
        made: what made the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escaped(value),
    )
    text = environment.get_template("page.md.jinja").render(
        title=title,
        note=Markup(note),
        metric=study.metric,
        reference=study.reference.label,
        runs=study.runs,
        configurations=study.configurations,
        warnings=warnings(study.configurations, [pair[:2] for pair in study.comparisons], study.metric),
        results=results(study),
        sentences=comparisons_table(study)["sentence"],
        tested=sum(not math.isnan(found.p) for _, _, found in study.comparisons),
        flipped=sum(not math.isnan(found.p_flip) for _, _, found in study.comparisons),
        comparisons=pd.DataFrame([comparison(*each, study.metric) for each in study.comparisons]),
        pictures=pictures,
        overlays=overlays,
        settings=settings_table(study),
        environment=machines(study),
        left_out=pd.DataFrame([{"directory": left.directory, "why": left.why} for left in study.left_out]),
        command=fenced(command) if command else None,
        made=fenced(made),
        table=table,
    )
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    write_text(out / "report.md", text)
    drawn = {f"{picture.name}.svg": (out / f"{picture.name}.svg").read_bytes() for picture in pictures}
    write_text(out / "report.html", page(text, title, drawn))


def page(text: str, title: str, pictures: Mapping[str, bytes]) -> str:
    """Markdown -> a page of HTML that needs no other file and loads none.

    HTML in the Markdown is shown as text, a link leads nowhere but into the page or to FILES, and an image that is none
    of `pictures` (file name -> SVG) is shown as its address: what a note or a run of others says cannot load anything.
    """
    reader = markdown.Markdown(extensions=["tables", "fenced_code", "toc", "sane_lists"])
    reader.preprocessors.deregister("html_block")
    reader.inlinePatterns.deregister("html")
    reader.treeprocessors.register(Alone(pictures), "alone", 0)
    body = reader.convert(text)
    # An interval stays on its line; a command is copied as it is.
    parts = re.split("(<pre>.*?</pre>)", body, flags=re.DOTALL)
    parts[::2] = [re.sub(r"(?<=\d) (±|to) (?=[+-]?\d)", r"&nbsp;\1&nbsp;", part) for part in parts[::2]]
    body = "".join(parts)
    head = '<meta charset="utf-8" /><meta name="viewport" content="width=device-width, initial-scale=1" />'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


class Alone(Treeprocessor):
    """Puts the report's own pictures into the page, and takes every other address out of it."""

    def __init__(self, pictures: Mapping[str, bytes]) -> None:
        super().__init__()
        self.pictures = pictures
        self.shown = 0

    def run(self, root: Element) -> None:
        for parent, element in [(above, below) for above in root.iter() for below in above]:
            address = element.get("src") or element.get("href") or ""
            if element.tag == "img" and address in self.pictures:
                picture = base64.b64encode(self.pictures[address]).decode()
                element.set("src", f"data:image/svg+xml;base64,{picture}")
                parent.set("class", "picture" if self.shown else "picture first")
                self.shown += 1
            elif element.tag == "img":
                named = f"image: {element.get('alt')} ({address})"
                element.attrib.clear()
                element.tag, element.text = "code", AtomicString(named)
            elif element.tag == "a" and not address.startswith("#") and address not in FILES:
                element.attrib.clear()
                element.tag = "code"


def escaped(text: Any) -> Markup:
    """Text as itself in Markdown and in HTML, on one line, whatever is in it."""
    line = str(escape(" ".join(str(text).split())))
    return Markup(re.sub(r"([\\`*\[\]|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line))


def fenced(text: str) -> Markup:
    """A block of code, whatever is in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{text}\n{fence}")


def table(frame: pd.DataFrame) -> Markup:
    """A table in Markdown; its cells are text, whatever is in them."""
    rows = [
        ["" if isinstance(value, float) and math.isnan(value) else str(value) for value in row]
        for row in frame.itertuples(index=False)
    ]
    return Markup(markdown_table([*map(str, frame.columns)], rows, escape=escaped))


def results(study: Study) -> pd.DataFrame:
    """A row a configuration: its score, size and cost."""
    rows = []
    for each in study.configurations:
        scores = each.scores(study.metric)
        found = estimate([*scores.values()])
        rows.append(
            {
                "configuration": each.label,
                "n": found.n,
                "seeds": ", ".join(map(str, sorted(scores))),
                study.metric: spread(found, study.metric),
                "parameters": f"{each.mean('parameters'):,.0f}",
                "MACs (millions)": f"{each.mean('macs') / 1e6:,.0f}",
                "training images": f"{each.runs[0].summary['images']['train']:,}",
                "images seen": f"{each.images_seen:,.0f}",
                "seconds": f"{each.mean('seconds'):,.0f}",
                "images/s": f"{each.mean('images_per_second'):,.0f}",
            }
        )
    return pd.DataFrame(rows)


def spread(found: Estimate, metric: str) -> str:
    """A mean, and what is known of its spread."""
    values = (found.mean, found.high - found.mean, found.lowest, found.highest)
    mean, margin, lowest, highest = (written(value, metric) for value in values)
    if found.n >= ENOUGH:
        return f"{mean} (n = {found.n}, all equal)" if math.isnan(found.high) else f"{mean} ± {margin}"
    return f"{mean} (n = 2: {lowest} to {highest})" if found.n == 2 else f"{mean} (n = 1: no interval)"


def comparison(each: Configuration, base: Configuration, found: Comparison, metric: str) -> dict[str, Any]:
    """A comparison as a row of the page."""
    difference, low, high, lowest, highest = (
        written(value, metric, "+") for value in (found.difference, found.low, found.high, found.lowest, found.highest)
    )
    sure, single = not math.isnan(found.low), math.isnan(found.lowest)
    return {
        "configuration": each.label,
        "against": base.label,
        "test": {"single": "none"}.get(found.kind, found.kind),
        "n": found.n,
        "difference": difference + (" (of the pairs alone)" if found.unpaired else ""),
        "95 % interval": f"{low} to {high}" if sure else "",
        "lowest to highest": "" if single else f"{lowest} to {highest}",
        "p (t)": shown_p(found.p),
        "p (t, Holm)": shown_p(found.p_holm),
        "p (sign flip)": shown_p(found.p_flip),
        "p (sign flip, Holm)": shown_p(found.p_flip_holm),
        "d": f"{found.effect:.2f}" if sure else "",
        "g": "" if math.isnan(found.hedges) else f"{found.hedges:.2f}",
    }


def machines(study: Study) -> pd.DataFrame:
    """A row for each place where configurations were computed: machine, versions, code, protocol."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for each, run in study.runs:
        place = (in_turn(run, machine), in_turn(run, versions), in_turn(run, commit), run.summary["protocol"])
        rows.setdefault(place, []).append(each.label)
    columns = ("machine", "versions", "commit", "protocol")
    everything = len(study.configurations)
    return pd.DataFrame(
        [
            {"configurations": "all" if len(set(labels)) == everything else "; ".join(dict.fromkeys(labels))}
            | dict(zip(columns, place, strict=True))
            | {"runs": len(labels)}
            for place, labels in rows.items()
        ]
    )


def machine(part: dict[str, Any]) -> str:
    """Where a part of a run was computed, as one text."""
    threads = f"{part['threads']} thread{'s' * (part['threads'] > 1)}"
    return f"{part['device']}, {threads}, {part['accelerator']['precision']}"
