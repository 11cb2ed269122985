"""Why a core stops before its program ends: the codes of its status register."""

import enum


class CoreError(enum.IntEnum):
    """Codes of ``STATUS.error``; every one stops the sequencer at the instruction that ``ERROR_AT`` names."""

    NONE = 0
    OPCODE = 1
    MALFORMED = 2
    WRITES_R0 = 3
    SEQUENCED_TOKENS = 4
    LOOP_DEPTH = 5
    LOOP_END = 6
    PAST_END = 7
    CONSTANT = 8
    NO_UNIT = 9
    TOKENS = 10
    DEADLOCK = 11
    MEMORY = 12
    TEXT_LENGTH = 13
    UNSUPPORTED = 14
    OTHER_CORE = 15


MEANINGS = {
    CoreError.OPCODE: "an opcode that no class has",
    CoreError.MALFORMED: "reserved bits that are not 0, or a code of a field that means nothing",
    CoreError.WRITES_R0: "a write to R0",
    CoreError.SEQUENCED_TOKENS: "tokens on an instruction that the sequencer carries out itself",
    CoreError.LOOP_DEPTH: "loops nested too deep",
    CoreError.LOOP_END: "an END without its loop, or not where the loop says",
    CoreError.PAST_END: "a text that does not end with DONE",
    CoreError.CONSTANT: "the number of a constant beyond their memory",
    CoreError.NO_UNIT: "an instruction of a class that this core has no unit for",
    CoreError.TOKENS: "more tokens between two classes than their counter holds",
    CoreError.DEADLOCK: "every queue waits for tokens that no one will give",
    CoreError.MEMORY: "an error response of a memory",
    CoreError.TEXT_LENGTH: "a text, or constants, longer than their memory",
    CoreError.UNSUPPORTED: "an instruction, or an operand, that its unit in this core does not carry out",
    CoreError.OTHER_CORE: "another core that ended with an error, or has no run on where this one waits for it",
}
