"""Errors of the kernels.

KernelError
|-- KernelArgumentError (ValueError)        an argument's value, shape, layout or dtype
`-- KernelConfigurationError (RuntimeError) threads or threading layer
"""

from typing import NoReturn


class KernelError(Exception):
    """Whatever a kernel refuses."""


class KernelArgumentError(KernelError, ValueError):
    """An argument is not what the kernel's contract asks for.

    Args:
        argument: The argument's name.
        problem: What was wrong with it.
        expected: What was expected instead.
    """

    def __init__(self, argument: str, problem: str, expected: str) -> None:
        super().__init__(f"{argument}: {problem}; expected {expected}")
        self.argument = argument
        self.problem = problem
        self.expected = expected


class KernelConfigurationError(KernelError, RuntimeError):
    """Threads cannot be set as asked, or kernels run on the wrong threading layer."""


def refuse(argument: str, problem: str, expected: str) -> NoReturn:
    """Raises the error that says what is wrong with an argument."""
    raise KernelArgumentError(argument, problem, expected)
