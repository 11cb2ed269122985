"""Testbench verbs for streams in the Amaranth simulator: offer, take, watch the protocol, count cycles."""

import random

from amaranth.sim import Simulator


def never():
    """A pause that does not occur."""
    return False


def sometimes(seed, probability=0.4):
    """A pause that occurs with ``probability``, decided anew every cycle."""
    chance = random.Random(seed)
    return lambda: chance.random() < probability


async def feed(ctx, port, payloads, pause=never):
    """Offer the payloads in turn, each until it is taken."""
    for payload in payloads:
        while pause():
            await ctx.tick()
        ctx.set(port.payload, payload)
        ctx.set(port.valid, 1)
        await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)


async def drain(ctx, port, count, into, pause=never):
    """Take ``count`` payloads and append them to ``into``."""
    for _ in range(count):
        while pause():
            await ctx.tick()
        ctx.set(port.ready, 1)
        payload, = await ctx.tick().sample(port.payload).until(port.valid)
        ctx.set(port.ready, 0)
        into.append(payload)


async def hold_until_taken(ctx, port):
    """Once valid, a payload stays valid and unchanged until ready."""
    held = None
    async for *_, valid, ready, payload in ctx.tick().sample(port.valid, port.ready, port.payload):
        if held is not None:
            assert valid, f"payload {held!r} was withdrawn before it was taken"
            assert payload == held, f"payload {held!r} became {payload!r} before it was taken"
        held = payload if valid and not ready else None


class Span:
    """The first and the last cycle in which a beat passed one of the watched ports."""

    def __init__(self):
        self.first = None
        self.last = None

    @property
    def cycles(self):
        """Cycles from first to last, both included."""
        return self.last - self.first + 1

    async def watch(self, ctx, first_port, last_ports):
        """Note the first beat of ``first_port`` and the last beat of ``last_ports``."""
        cycle = 0
        passing = [port.valid & port.ready for port in (first_port, *last_ports)]
        async for _clk, _rst, first, *last in ctx.tick().sample(*passing):
            if first and self.first is None:
                self.first = cycle
            if any(last):
                self.last = cycle
            cycle += 1


def simulate(dut, benches, watchers=(), limit=20_000):
    """Run ``benches`` (and ``watchers`` in the background) to the end; more than ``limit`` cycles is a
    failure.

    Each is an async function and its arguments after ``ctx``: ``(feed, port, payloads)``.
    """
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    def add(function, *arguments, background=False):
        async def bench(ctx):
            await function(ctx, *arguments)
        simulator.add_testbench(bench, background=background)

    async def stop(ctx):
        for _ in range(limit):
            await ctx.tick()
        raise AssertionError(f"the simulation did not end within {limit} cycles")

    for bench in benches:
        add(*bench)
    for watcher in watchers:
        add(*watcher, background=True)
    add(stop, background=True)
    simulator.run()
