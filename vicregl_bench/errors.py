"""The errors a user can cause, each with the exit code the command line gives it."""

EXIT_DONE = 0
EXIT_CHECK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class BenchError(Exception):
    """Bad input. The message is one line that says what is wrong, where, and what to do."""

    exit_code = EXIT_BAD_INPUT


class CheckpointError(BenchError):
    """A checkpoint file that cannot be read, or does not fit the backbone asked for."""


class DataError(BenchError):
    """A data root that is missing, incomplete or damaged."""


class ConfigError(BenchError):
    """An option, override or task that does not exist or has an impossible value."""


class RecordError(BenchError):
    """A record that cannot be read, found or written."""


class RunInterruptedError(BenchError):
    """The user stopped the run; what was done so far is kept and a second run resumes."""

    exit_code = EXIT_INTERRUPTED
