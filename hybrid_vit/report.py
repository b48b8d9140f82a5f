"""Door: what several runs say together, as a page. `python -m hybrid_vit.report DIR... out=REPORT_DIR`."""

import shlex
import sys
from pathlib import Path
from typing import Any

from hybrid_vit.command import arguments, clear, door
from hybrid_vit.config import Spec, quoted, recorded


def main() -> None:
    argv = sys.argv[1:]
    with clear(code=2):
        settings = gathered(argv)

    def job(spec: Spec, directory: Path) -> None:
        report(spec, directory, made=shlex.join(["python", "-m", "hybrid_vit.report", *argv]))

    door("report", job, settings, also=reportable)


def gathered(argv: list[str]) -> list[str]:
    """The arguments, with those that are directories as the list `runs`."""
    _, settings, flags = arguments(argv)
    places = [text for text in settings if "=" not in text or Path(text).is_dir()]  # a sweep names some depth=4
    rest = [text for text in settings if text not in places]
    runs = [f"runs=[{','.join(map(quoted, places))}]"] if places else []
    return [*flags, *rest, *runs]


def reportable(spec: Spec, directory: Path, multirun: bool) -> None:
    """There is something to report; known before a directory is made."""
    from hybrid_vit.reporting.figures import read_overlay

    studied(spec)
    for path in spec["overlays"]:
        read_overlay(Path(path))
    if spec["note"] and not Path(spec["note"]).is_file():
        raise ValueError(f"note: there is no file {spec['note']}")


def studied(spec: Spec) -> Any:
    """The numbers of the report."""
    from hybrid_vit.reporting.study import study  # here, with pandas and scipy: --help need not wait for them

    if not spec["runs"]:
        raise ValueError("no directory was given: python -m hybrid_vit.report DIR... out=REPORT_DIR")
    chosen = {key: spec[key] for key in ("metric", "reference", "pairs")}
    return study([Path(run) for run in spec["runs"]], recorded, **chosen)


def report(spec: Spec, directory: Path, *, made: str) -> None:
    """Write report.md, report.html, runs.csv, comparisons.csv and the pictures into `directory`; print the gist."""
    from hybrid_vit.reporting import figures, page
    from hybrid_vit.reporting.study import comparisons_table, overlays_table, runs_table

    found = studied(spec)
    overlays = {Path(path).stem: figures.read_overlay(Path(path)) for path in spec["overlays"]}
    runs_table(found).to_csv(directory / "runs.csv", index=False)
    comparisons = comparisons_table(found)
    comparisons.to_csv(directory / "comparisons.csv", index=False)
    pictures = figures.draw(found, overlays, directory)
    page.write(
        found,
        pictures,
        overlays_table(found, overlays),
        directory,
        title=spec["title"],
        note=Path(spec["note"]).read_text(encoding="utf-8") if spec["note"] else "",
        command=spec["command"],
        made=made,
    )
    for line in comparisons["sentence"]:
        print(line)
    for left in found.left_out:
        print(f"left out: {left.directory} {left.why}")
    print(f"\nthe report: {directory / 'report.html'}")


if __name__ == "__main__":
    main()
