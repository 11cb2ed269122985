"""Drive a PE in the Amaranth simulator: steps in, the sums of ended groups out."""

from stream_bench import simulate


def steps_of(operands, **control):
    """The steps of one group of ``(a, w)`` pairs, the last one marked."""
    return [{"a": a, "w": w, "en": 1,
             "control": {"valid": 1, "last": int(k == len(operands) - 1), "signed": 0, "high": 0} | control}
            for k, (a, w) in enumerate(operands)]


def group_sums(pe, steps, names=("sum",)):
    """What the ports ``names`` show after each step that ends a group; a plain value for one port."""
    seen = []

    async def bench(ctx):
        for step in steps:
            for name, to in step.items():
                ctx.set(getattr(pe, name), to)
            await ctx.tick()
            if step["en"] and step["control"]["valid"] and step["control"]["last"]:
                values = tuple(ctx.get(getattr(pe, name)) for name in names)
                seen.append(values if len(names) > 1 else values[0])

    simulate(pe, [(bench,)], limit=100_000)
    return seen
