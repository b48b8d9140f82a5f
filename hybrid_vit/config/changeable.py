"""Which settings may change when a run or a sweep continues."""

from collections.abc import Sequence

# How and where a run computes may differ when it continues; what it computes may not.
CHANGEABLE = (
    *("trainer", "accelerator", "logger", "data.root", "data.num_workers", "data.check"),
    *("data.eval_batch_size", "checkpoint_minutes", "tags", "verbose"),
)
FIXED = (  # but these are what it computes
    *("trainer.accumulate_grad_batches", "trainer.limit_train_batches"),
    *("trainer.limit_val_batches", "trainer.limit_test_batches"),
)
WORDS = f"{', '.join(CHANGEABLE)} (except {', '.join(FIXED)})"


def changeable(key: str) -> bool:
    """Whether `key`, and all keys below it, say only how and where a run computes."""
    return below(key, CHANGEABLE) and not any(below(fixed, [key]) for fixed in FIXED)


def below(key: str, others: Sequence[str]) -> bool:
    """Whether a dotted key is one of `others` or below one of them."""
    return any(key == other or key.startswith(f"{other}.") for other in others)
