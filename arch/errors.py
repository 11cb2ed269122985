"""The one exception for bad input.

    InputError      what a user gave cannot be used (exit status 2, one line)

Everything else that is raised is a defect of the program.
"""


class InputError(ValueError):
    """What a user gave cannot be used.

    The message is one line that says what must hold, what came and where. The command line prints it and exits with
    status 2; nothing has been written by then.
    """
