"""Command: score a trained run on the test set. `python -m hybrid_vit.evaluate run=outputs/runs/NAME`."""

import html
import sys
from pathlib import Path

from hybrid_vit.cli.command import name_run, run_command
from hybrid_vit.config.compose import Spec
from hybrid_vit.utils.paths import find_run

PAGE = """# {name}: {images:,} test images

Top-1: {top1}.
{warnings}
{scores}

## Worst classes

{worst}

Every class: [per_class.csv](per_class.csv).

![Confusion matrix](confusion.png)
"""


def main() -> None:
    run_command("evaluate", evaluate, sys.argv[1:], read=name_run, also=findable)


def findable(spec: Spec, directory: Path, multirun: bool) -> None:
    """The run is there; known before a directory is made."""
    find_run(spec["run"])


def evaluate(spec: Spec, directory: Path) -> float:
    """Score, write a page with its table and picture into `directory`, print; returns top-1."""
    from hybrid_vit.data.module import changes_of_test_set
    from hybrid_vit.deploy.card import score_row
    from hybrid_vit.deploy.scoring import load_data, score_test_set
    from hybrid_vit.deploy.trained import load  # here, with torch: --help and a wrong key need not wait for it
    from hybrid_vit.evaluation.plots import confusion_matrix
    from hybrid_vit.evaluation.scoring import per_class
    from hybrid_vit.fast.accelerator import choose, keep_memory
    from hybrid_vit.models import mirrored
    from hybrid_vit.utils.files import write_csv, write_json, write_text
    from hybrid_vit.utils.tables import markdown_table, piped, text_table

    keep_memory()
    run = find_run(spec["run"])
    trained = load(run)
    choice = choose(**spec["accelerator"])
    choice.tune(trained)
    data = load_data(trained, spec["data"])
    differences = changes_of_test_set(trained.fingerprint, data.fingerprint())
    scores, confusion = score_test_set(trained.net, data, choice)
    images = int(scores.pop("images"))
    classes = per_class(confusion, data.class_names)
    content = {"run": str(run), "images": images, "test": scores, "differences": differences}
    before = {key.removeprefix("test_"): value for key, value in trained.summary.get("scores", {}).items()}
    columns = {"test": scores, "in training": before}
    if spec["tta"]:
        averaged, _ = score_test_set(mirrored(trained.net), data, choice)
        averaged.pop("images")
        content["tta"] = columns["with mirror images"] = averaged
    write_json(directory / "evaluation.json", content)
    write_csv(directory / "per_class.csv", classes)
    confusion_matrix(confusion, data.class_names, directory / "confusion.png", title=f"{run.resolve().name}: test set")

    table = [(name, *(f"{each[name]:.3f}" if name in each else "" for each in columns.values())) for name in scores]
    worst = [
        (str(row["class"]), f"{row['top1']:.1f}", str(row["taken_for"] or "nothing else"))
        for row in [row for row in classes if row["images"]][:5]
    ]
    heads = ("class", "top-1, %", "most often taken for")
    limited = trained.summary.get("limited") or {}
    warnings = [
        *([f"trained on some batches only; {trained.summary['protocol']}"] if "train_batches" in limited else []),
        *(["in training, only some of the test images were scored"] if "test_batches" in limited else []),
        *([f"since training there are {', '.join(differences)}"] if differences else []),
    ]
    warned = "".join(f"\nnot comparable: {text}\n" for text in warnings)
    page = PAGE.format(
        name=html.escape(run.resolve().name, quote=False),
        images=images,
        top1=score_row(scores["top1"], images)[1],
        warnings=warned,
        scores=markdown_table(("", *columns), table),
        worst=markdown_table(heads, worst, escape=lambda cell: piped(html.escape(cell, quote=False))),
    )
    write_text(directory / "evaluation.md", page)
    print(f"{text_table(('', *columns), table)}\n{warned}\nworst classes\n{text_table(heads, worst)}")
    print(f"\nthe page: {directory / 'evaluation.md'}")
    return scores["top1"]


if __name__ == "__main__":
    main()
