"""Lengths of time as people write them <-> seconds."""

import re

from hybrid_vit.utils.errors import UserError

UNITS = (86400, 3600, 60, 1)


def seconds(text: str) -> float:
    """'90s', '30m', '1h30m', '2h', '1d', or DD:HH:MM:SS -> seconds.

    Raises:
        UserError: another text, or no time at all.
    """
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(r"(\d+):(\d+):(\d+):(\d+)", text) or re.fullmatch(
        rf"(?:{number}d)?(?:{number}h)?(?:{number}m)?(?:{number}s)?", text
    )
    parts = [float(part or 0) for part in match.groups()] if match else []
    total = sum(part * unit for part, unit in zip(parts, UNITS, strict=False))
    if not total:
        raise UserError(f"{text!r} is not a length of time; write e.g. 90s, 30m, 1h30m or 2h")
    return total


def spoken(seconds: float) -> str:
    """Seconds -> '45 s', '12 min' or '3 h 20 min'."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
