"""Command: classify images with a trained model. `python -m hybrid_vit.predict model=NAME PATH...`."""

import os
import sys
from pathlib import Path

from hybrid_vit.cli.command import arguments, clear, name_run, run_command
from hybrid_vit.config.compose import Spec
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import find_run


def main() -> None:
    with clear(code=2):
        _, given, flags = arguments(sys.argv[1:])
        places = [text for text in given if is_place(text)]
        settings = name_run([text for text in given if not is_place(text)])

    def check(spec: Spec, directory: Path, multirun: bool) -> None:
        if not places:
            raise UserError("no image was given: python -m hybrid_vit.predict model=NAME PATH...")
        find_run(spec["run"])

    run_command("predict", lambda spec, directory: predict(spec, places), [*flags, *settings], also=check)


def is_place(text: str) -> bool:
    """Whether an argument is a path or a pattern, in which there may be "=", and not KEY=VALUE."""
    key, equals, _ = text.partition("=")
    pattern = "*" in text or "?" in text
    return not equals or pattern or "/" in key.removeprefix("hydra/") or os.path.exists(text)


def predict(spec: Spec, places: list[str]) -> None:
    """Print what the model says of the images in `places`; exit code 1 if some could not be read."""
    from tqdm import tqdm

    from hybrid_vit.deploy.prediction import FORMATS, answers, find_images
    from hybrid_vit.deploy.trained import load  # here, with torch: --help and a wrong key need not wait for it
    from hybrid_vit.fast.accelerator import keep_memory

    keep_memory()
    paths = find_images(places)
    trained = load(spec["run"], fast=spec["fast"])
    if trained.temperature == 1:
        print("the probabilities are not calibrated: this model has no temperature", file=sys.stderr)
    write = FORMATS[spec["format"]](sys.stdout, paths, trained.class_names, spec["top"])
    hidden = sys.stdout.isatty() or not sys.stderr.isatty()
    failed = 0
    try:
        for answer in tqdm(answers(trained, paths, batch_size=spec["batch_size"]), total=len(paths), disable=hidden):
            failed += isinstance(answer[1], UserError)
            write(answer)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `| head`; nobody reads what is still to be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if failed:
        raise UserError(f"{failed} of {len(paths)} images could not be read")


if __name__ == "__main__":
    main()
