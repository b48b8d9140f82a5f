"""The model card of a published run: its description, its scores -> README.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from hybrid_vit.utils.durations import spoken
from hybrid_vit.utils.tables import markdown_table

TEMPLATE = """# {name}

An image classifier, trained from scratch: {parameters:,} parameters, {macs:,.0f} million multiply-adds for an image of
{size} x {size} pixels, {classes} classes.

{figures}

{scope}

## Use

```python
import hybrid_vit

model = hybrid_vit.load("{name}")
print(model.predict("image.png").label)
```

The weights are in `model.safetensors` ({weights}), the preprocessing and the class names in `model.json`.
`python -m hybrid_vit.evaluate run={name}` scores them again.

## Training

```
{command}
```

{recipe}

![Learning curve](learning_curve.png)

## Data and limits

{images:,} training images of `{data}`. {protocol}.
The model knows its {classes} classes and nothing else: it answers with one of them for any image.
Images of another size are resized to {size} x {size} pixels.
{calibration}

## Licence

MIT, as the code. The images that it was trained on have their own terms.
"""


def model_card(
    name: str,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    classes: int,
    size: int,
    figures: Sequence[Sequence[str]],
    scope: str,
    calibration: str,
    weights: str,
    command: str,
) -> str:
    """README.md of a published run.

    Args:
        summary: of the run whose weights these are.
        config: of the same run.
        figures: rows of (what, value, n).
        scope: what the rows do and do not say.
        calibration: what the probabilities are worth.
        weights: their number format, and what it costs.
    """
    optim, optimizer = config["optim"], dict(config["optim"])
    named = ("lr", "adamw_lr", "weight_decay", "schedule")
    recipe = [
        (
            "optimizer",
            ", ".join(
                [
                    optim["name"],
                    *(
                        f"{key} {optimizer[key]:g}" if isinstance(optimizer[key], float) else f"{key} {optimizer[key]}"
                        for key in named
                        if optimizer.get(key) is not None
                    ),
                ]
            ),
        ),
        ("steps, batch size", f"{summary['steps']:,} ({summary['epochs']:.3g} epochs), {config['batch_size']}"),
        ("label smoothing, EMA decay", f"{config['label_smoothing']:g}, {config['ema']['decay']:g}"),
        ("seed", str(summary["seed"])),
        ("training", f"{spoken(summary['seconds'])}, {summary['images_per_second']:.0f} images/s"),
        ("processor", f"{summary['device']}, {summary['threads']} threads, {summary['accelerator']['precision']}"),
        ("versions", ", ".join(f"{key} {value}" for key, value in summary["versions"].items())),
        ("commit, date", f"{summary['commit']}, {summary['started'][:10]}"),
    ]
    return TEMPLATE.format(
        name=name,
        parameters=summary["parameters"],
        macs=summary["macs"] / 1e6,
        size=size,
        classes=classes,
        figures=markdown_table(("", "value", "n"), figures),
        scope=scope,
        calibration=calibration,
        weights=weights,
        command=command,
        recipe=markdown_table(("", ""), recipe),
        images=summary["images"]["train"],
        data=config["data"]["source"],
        protocol=summary["protocol"][0].upper() + summary["protocol"][1:],
    )
