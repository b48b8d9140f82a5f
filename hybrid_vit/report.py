"""Command: compare several runs on one page. `python -m hybrid_vit.report DIR... out=REPORT_DIR`."""

import shlex
import sys
from pathlib import Path
from typing import Any

from hybrid_vit.cli.command import clear, gather_runs, run_command
from hybrid_vit.config.compose import Spec
from hybrid_vit.utils.errors import UserError


def main() -> None:
    argv = sys.argv[1:]
    known: list[tuple[Spec, Any]] = []  # the check has read the runs: a large folder is walked through once
    with clear(code=2):
        settings = gather_runs(argv)

    def check(spec: Spec, directory: Path, multirun: bool) -> None:
        known.append((chosen(spec), reportable(spec)))

    def job(spec: Spec, directory: Path) -> None:
        found = next((found for settings, found in known if settings == chosen(spec)), None) or reportable(spec)
        report(spec, found, directory, made=shlex.join(["python", "-m", "hybrid_vit.report", *argv]))

    run_command("report", job, settings, also=check)


def chosen(spec: Spec) -> Spec:
    """The settings that the numbers depend on."""
    return {key: spec[key] for key in ("runs", "metric", "reference", "pairs")}


def reportable(spec: Spec) -> Any:
    """The numbers of the report, if all is there that it needs; known before a directory is made."""
    from hybrid_vit.studies.report.curves import read_overlay  # here, with pandas: --help need not wait for it
    from hybrid_vit.studies.report.study import study

    for path in spec["overlays"]:
        read_overlay(Path(path))
    read_note(spec["note"])
    if not spec["runs"]:
        raise UserError("no directory was given: python -m hybrid_vit.report DIR... out=REPORT_DIR")
    pairs = spec["pairs"]
    if pairs and not any(isinstance(pair, list) for pair in pairs):
        pairs = [pairs]
    if not all(isinstance(pair, list) for pair in pairs):
        raise UserError(f"pairs: {pairs} mixes labels and pairs; write pairs=[A,B] or pairs=[[A,B],[C,D]]")
    pairs = [[*map(str, pair)] for pair in pairs]
    places = [Path(run) for run in spec["runs"]]
    return study(places, metric=spec["metric"], reference=spec["reference"], pairs=pairs)


def read_note(path: str | None) -> str:
    """The text of a note, if there is one."""
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except UnicodeDecodeError:
        raise UserError(f"note: {path} is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"note: {path} cannot be read ({error.strerror})") from None


def report(spec: Spec, found: Any, directory: Path, *, made: str) -> None:
    """Write report.md, report.html, runs.csv, comparisons.csv and the pictures into `directory`; print a summary."""
    from hybrid_vit.studies.report import figures, page
    from hybrid_vit.studies.report.curves import read_overlay
    from hybrid_vit.studies.report.study import comparisons_table, overlays_table, runs_table
    from hybrid_vit.utils.files import write_text

    stems = [Path(path).stem for path in spec["overlays"]]
    names = stems if len({*stems}) == len(stems) else spec["overlays"]
    overlays = {name: read_overlay(Path(path)) for name, path in zip(names, spec["overlays"], strict=True)}
    comparisons = comparisons_table(found)
    for name, table in (("runs", runs_table(found)), ("comparisons", comparisons)):
        write_text(directory / f"{name}.csv", table.to_csv(index=False))
    pictures = figures.draw(found, overlays, directory)
    page.write(
        found,
        pictures,
        overlays_table(found, overlays),
        directory,
        title=spec["title"],
        note=read_note(spec["note"]),
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
