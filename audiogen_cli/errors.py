"""Every exception that `audiolm` raises on purpose, and the exit code each one ends the program with.

    AudiolmError                1   something that the user can act on went wrong
    |-- InputError              2   an argument, prompt or recipe that cannot be used
    |   |-- ConfigError         2   a configuration with unknown, missing or ill-typed keys
    |   `-- AudioError          2   a sound file that cannot be read, or holds nothing usable
    |-- OutputError             3   the result cannot be written where it was asked for
    |-- ModelError              4   a model that cannot be found, or whose parts do not fit
    |   `-- CheckpointError     4   a checkpoint folder or file that is not what it claims to be
    `-- TrainingError           5   training that cannot go on (for example a loss that is NaN)

A message is one sentence that ends with what to do. Ctrl-C ends with 130, as in every shell tool.
"""


class AudiolmError(Exception):
    exit_code = 1


class InputError(AudiolmError):
    exit_code = 2


class ConfigError(InputError):
    pass


class AudioError(InputError):
    pass


class OutputError(AudiolmError):
    exit_code = 3


class ModelError(AudiolmError):
    exit_code = 4


class CheckpointError(ModelError):
    pass


class TrainingError(AudiolmError):
    exit_code = 5
