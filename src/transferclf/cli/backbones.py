"""transferclf backbones: the networks that can be used."""

from __future__ import annotations

import click

import transferclf
from transferclf.cli.options import json_option
from transferclf.cli.texts import show, show_json, show_table


@click.command("backbones")
@click.argument("pattern", required=False)
@json_option
def command(pattern: str | None, as_json: bool) -> None:
    """List the names of backbones, with the side of their images and the number of weights.

    PATTERN has the wildcards * and ?. "timm:*dino*" and "keras_hub:*" list the names of networks
    of other libraries.
    """
    names = transferclf.list_backbones(pattern)
    if pattern and ":" in pattern:
        show_json(names) if as_json else show("\n".join(names))
        return
    records = [transferclf.get_backbone(name) for name in names]
    rows = [(record.name, record.image_size, record.parameters) for record in records]
    if as_json:
        columns = ("name", "image_size", "parameters")
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    show_table(
        (name, size, "" if count is None else f"{count / 1e6:.1f} million")
        for name, size, count in rows
    )
