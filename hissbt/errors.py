"""The errors that hissbt raises on purpose.

Each message is one sentence that says what was wrong, where, and what to do. The command line prints it and
exits with the class's ``exit_code``: 2 for bad input, 1 for work that failed.
"""


class HissbtError(Exception):
    """Base of all our errors."""

    exit_code = 2


class BarsError(HissbtError):
    """Bars that cannot be trusted: a missing or empty file, a bad row, a wrong timeframe."""


class FeatureError(HissbtError):
    """A feature that does not exist, or that these bars cannot supply."""


class ConfigError(HissbtError):
    """A setting that does not exist or whose value is out of range."""


class BundleError(HissbtError):
    """A model bundle that is missing, damaged, of another kind, or of another schema version."""


class StreamError(HissbtError):
    """A bar or a snapshot that a running model cannot take."""


class StrategyError(HissbtError):
    """A strategy that cannot be found, loaded or parametrized."""


class StoreError(HissbtError):
    """A dataset of the bar store that is absent, damaged, of another schema, or not to be written."""

    exit_code = 1


class FetchError(HissbtError):
    """Market data that could not be downloaded, or not completely."""

    exit_code = 1


class TrainingError(HissbtError):
    """A training run that could not finish."""

    exit_code = 1


class SweepError(HissbtError):
    """A sweep none of whose backtests could finish, or one of them that failed."""

    exit_code = 1


class AuditError(HissbtError):
    """A target that an audit cannot run.

    ``shown`` is at how many bars it failed if it asked for a value that is not there (IndexError), else None.
    """

    def __init__(self, message: str, shown: int | None = None):
        super().__init__(message)
        self.shown = shown
