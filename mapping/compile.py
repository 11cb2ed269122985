"""From a trace and an accelerator to the program the accelerator runs."""

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.commands import MatrixCommand, Program, VectorCommand
from mixflight.mapping.matrix import matrix_command
from mixflight.mapping.vector import vector_command
from mixflight.workloads.operators import Operator
from mixflight.workloads.trace import Trace


def command_of(operator: Operator, accelerator: Accelerator) -> MatrixCommand | VectorCommand:
    """The command that runs ``operator`` on ``accelerator``."""
    return matrix_command(operator, accelerator) if operator.is_matrix else vector_command(operator, accelerator)


def compile_trace(trace: Trace, accelerator: Accelerator) -> Program:
    """The program of one prefill or decode step; operators that cannot be promoted or do not fit are errors."""
    return Program(commands=tuple(command_of(operator, accelerator) for operator in trace.operators))
