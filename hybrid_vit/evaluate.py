"""Command: score a trained run on the test set. `python -m hybrid_vit.evaluate run=outputs/runs/NAME`."""

import sys
from pathlib import Path

from hybrid_vit.cli.command import clear, name_run, run_command
from hybrid_vit.config.compose import Spec
from hybrid_vit.utils.paths import find_run


def main() -> None:
    with clear(code=2):
        argv = name_run(sys.argv[1:])
    run_command("evaluate", evaluate, argv, also=findable)


def findable(spec: Spec, directory: Path, multirun: bool) -> None:
    """The run is there; known before a directory is made."""
    find_run(spec["run"])


def evaluate(spec: Spec, directory: Path) -> float:
    """Score, write evaluation.json, per_class.csv and confusion.png into `directory`, print; returns top-1."""
    from hybrid_vit.deploy.scoring import find_differences, load_data, score_test_set
    from hybrid_vit.deploy.trained import load  # here, with torch: --help and a wrong key need not wait for it
    from hybrid_vit.evaluation import per_class
    from hybrid_vit.evaluation.plots import confusion_matrix
    from hybrid_vit.fast.accelerator import choose, keep_memory
    from hybrid_vit.models import mirrored
    from hybrid_vit.utils.files import write_csv, write_json
    from hybrid_vit.utils.tables import text_table

    keep_memory()
    run = find_run(spec["run"])
    trained = load(run)
    choice = choose(**spec["accelerator"])
    choice.tune(trained)
    data = load_data(trained, spec["data"])
    differences = find_differences(trained, data)
    scores, confusion = score_test_set(trained, data, choice)
    images = scores.pop("images")
    classes = per_class(confusion, data.class_names)
    content = {"run": str(run), "images": images, "test": scores, "differences": differences}
    before = {key.removeprefix("test_"): value for key, value in trained.summary.get("scores", {}).items()}
    columns = {"test": scores, "in training": before}
    if spec["tta"]:
        trained.net = mirrored(trained.net)
        averaged, _ = score_test_set(trained, data, choice)
        averaged.pop("images")
        content["tta"] = columns["with mirror images"] = averaged
    write_json(directory / "evaluation.json", content)
    write_csv(directory / "per_class.csv", classes)
    confusion_matrix(confusion, data.class_names, directory / "confusion.png", title=f"{run.name}: test set")

    cells = [[f"{column[name]:.3f}" if name in column else "" for column in columns.values()] for name in scores]
    print(text_table(("", *columns), [(name, *row) for name, row in zip(scores, cells, strict=True)]))
    if trained.summary.get("limited"):
        print(f"\nnot comparable: trained on some batches only; {trained.summary['protocol']}")
    if differences:
        print(f"\nnot comparable: since training there are {', '.join(differences)}")
    worst = [
        (str(row["class"]), f"{row['top1']:.1f} %", str(row["taken_for"] or "nothing else")) for row in classes[:5]
    ]
    print(f"\n{text_table(('worst classes', 'top-1', 'most often taken for'), worst)}")
    print(f"\nevery class: {directory / 'per_class.csv'}\nconfusion:   {directory / 'confusion.png'}")
    return scores["top1"]


if __name__ == "__main__":
    main()
