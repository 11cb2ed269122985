"""The page of a sweep: its front to hover over and to take along, a table to filter and sort; one file, no network."""

from collections.abc import Mapping
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from mixflight.reports.palette import SERIES

_LAST = ("index", "key", "closed_form")


def render_sweep(
    outcome: Mapping[str, Any], manifest: Mapping[str, Any], sources: Mapping[str, str], source: str
) -> str:
    """The page as HTML text, of the documents ``front.json`` and ``sweep.json``; the same ones give the same text.

    ``sources`` says of each column where its numbers come from, ``source`` of the front as a whole.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mixflight.reports", "."), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    space = manifest["space"]
    front = [_flat(item) for item in outcome["pareto"]]
    objectives = list(outcome["objectives"])
    axes = [name for name in front[0] if _is_axis(name, space)] if front else []
    varied = [name for name in axes if len({item[name] for item in front}) > 1]
    rest = [name for name in front[0] if name not in (*axes, *objectives, *_LAST)] if front else []
    same = [name for name in axes if name not in varied]
    data = {"rows": front, "columns": [*varied, *objectives, *rest, *same], "varied": varied, "objectives": objectives,
            "sources": sources, "series": SERIES}
    # In a script element only "<" can end it; JSON may write it as an escape.
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    return environment.get_template("sweep_page.html").render(
        d=outcome, front=front, finding=space["finding"], excluded=sum(outcome["excluded"].values()),
        errors=outcome["errors"], manifest=manifest, source=source, data=Markup(text),
        space=msgspec.json.format(msgspec.json.encode(space)).decode(),
    )  # fmt: skip


def _is_axis(name: str, space: Mapping[str, Any]) -> bool:
    known = (*space["axes"], *space["derived"])
    return name in known or f"free.{name}" in known


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    """A point with its largest disagreement as one number."""
    apart = item.get("disagreement")
    found = {key: value for key, value in item.items() if not isinstance(value, dict)}
    return found if apart is None else {**found, "disagreement": max(apart.values(), key=abs)}
