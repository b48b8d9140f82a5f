"""Layers: the parameters of a network in the order of its depth, from the image to the classifier.

A network defines them by `group_matcher()`, as timm's networks do; in ours its argument `coarse` has no effect.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import nn

from hybrid_vit.utils.errors import UserError

# Parts by depth: a pattern of names, or several with what is appended to the numbers in them; those numbers are depths.
Matcher = Mapping[str, str | Sequence[tuple[str, tuple[float, ...] | None]]]
CLASSIFIERS = ("head", "head_dist", "fc", "classifier")  # names of our classifiers, timm's and transformers'
PREVIOUS = 99999  # appended: the parameters belong to the layer before


def layers(net: nn.Module) -> list[list[str]]:
    """Names of the parameters of each layer, the classifier's last: what `timm.models.group_parameters` gives.

    Raises:
        UserError: the network has no `group_matcher`.
    """
    if not hasattr(net, "group_matcher"):
        raise UserError(
            f"the depth of the layers of {type(net).__name__} is not known, as it has no group_matcher(); "
            "use transfer=full without optim.layer_decay"
        )
    matcher: Matcher = net.group_matcher()  # type: ignore[operator]
    patterns = [
        (re.compile(pattern), part, end or ())
        for part, entry in enumerate(matcher.values())
        for pattern, end in ([(entry, None)] if isinstance(entry, str) else entry)
    ]
    named: dict[tuple[float, ...], list[str]] = defaultdict(list)
    for name, _ in net.named_parameters():
        found = ((pattern.match(name), part, end) for pattern, part, end in patterns)
        depth = next(((part, *map(float, match.groups()), *end) for match, part, end in found if match), (math.inf,))
        named[depth].append(name)
    ordered: list[list[str]] = []
    for depth in sorted(named):
        if not ordered or depth[-1] != PREVIOUS:
            ordered.append([])
        ordered[-1] += named[depth]
    return ordered
