"""One published number beside ours: what every reproduction study returns."""

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A published number and ours.

    ``published``  as printed; ``None`` where nothing was published for this id
    ``rel_error``  (ours - published) / published, signed; ``None`` where there is nothing to compare
    ``allowed``    the largest absolute difference that counts as reproduced: half a unit of the last printed digit, or
                   the study's tolerance; ``within`` says whether it holds
    ``source``     where the published number stands; ``note`` what to know before comparing
    """

    id: str
    published: float | None
    ours: float | None
    rel_error: float | None
    mode: str
    unit: str = ""
    allowed: float | None = None
    within: bool | None = None
    source: str = ""
    note: str = ""


_FLOAT_SLACK = 1e-9


def compare(
    name: str, published: float | None, ours: float | None, mode: str, *,
    unit: str = "", rounding: float = 0.0, relative: float = 0.0, source: str = "", note: str = "",
) -> Row:  # fmt: skip
    """The row ``name``; a difference up to ``rounding``, or up to ``relative`` of the published value, is allowed."""
    if published is None or ours is None:
        return Row(
            id=name, published=published, ours=ours, rel_error=None, mode=mode, unit=unit, source=source, note=note
        )
    allowed = max(rounding, relative * abs(published))
    return Row(
        id=name, published=published, ours=ours, rel_error=(ours - published) / published if published else None,
        mode=mode, unit=unit, allowed=allowed, within=abs(ours - published) <= allowed + _FLOAT_SLACK,
        source=source, note=note,
    )  # fmt: skip
