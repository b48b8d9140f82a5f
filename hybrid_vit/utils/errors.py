"""The errors that a user can fix; their message is a sentence with the remedy. All others are faults of the package."""


class UserError(ValueError):
    """A setting, a file or a combination of them that cannot be."""


class MissingPackage(ModuleNotFoundError, UserError):
    """A package that is not installed, of one of the extras."""
