"""The errors that a user can meet: each message is one line that names the thing and the cure."""


class ActFERError(Exception):
    """Base of every error that this package raises on bad input; the command line prints it as one line."""


class ImageError(ActFERError, ValueError):
    """An image that cannot be read, or that lies outside the documented size bounds."""


class DetectorError(ActFERError, RuntimeError):
    """A detector that is unknown, lacks its extra or weights, or returned something malformed."""


class DataError(ActFERError, ValueError):
    """A data set, label or stored file that is missing, unknown or malformed."""


class LabelError(DataError):
    """An emotion, Action Unit or region that the taxonomy does not know."""


class WorkerError(ActFERError, RuntimeError):
    """A worker process of a vector environment that has ended before its time."""
