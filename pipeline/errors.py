"""Errors a person can act on: each says what is wrong, where, and what would be right."""


class HeadraceError(Exception):
    """Base of every expected failure; the command line prints it in one piece, without a traceback."""


class InputError(HeadraceError):
    """An input file is missing, empty, unreadable or not of the format that was named."""


class RecipeError(HeadraceError):
    """A recipe or run file has an unknown key, a wrong type or a value that cannot be."""


class StoreError(HeadraceError):
    """The store cannot be used: a newer schema, a full disk, a foreign folder."""


class IntegrityError(HeadraceError):
    """Stored bytes are not the bytes that their record names."""


class LedgerError(HeadraceError):
    """Bytes or records do not add up; something would have been lost in silence."""


class UnstableValueError(HeadraceError, TypeError):
    """A value has no canonical form (NaN, a set, an object's repr) and so cannot be hashed."""


class LockError(HeadraceError):
    """A locked build would use or make something that the lock does not name."""


class ModelError(HeadraceError):
    """A model file is absent or has another digest than the one that was asked for."""


class RemoteError(HeadraceError):
    """What lies elsewhere could not be read, however often it was tried."""
