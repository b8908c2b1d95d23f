"""``rankstream model``: makes a model ready to be served."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
from rich.console import Console

from rankstream.server import encoder_options
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.quality import GATES, Gate
from rankstream.server.text_file import read_texts

_INT8 = GATES["int8"]


@click.group("model")
def model_group() -> None:
    """Make a model ready to be served."""


@model_group.command(
    epilog="\b\nExample:\n"
    "  rankstream model optimize --texts titles.txt --out minilm-int8\n"
    "  rankstream serve --embedded --model minilm-int8"
)
@click.option(
    "--texts",
    required=True,
    type=click.Path(path_type=Path),
    help="Real texts, one a line (.gz too), at least 300: titles, descriptions, queries.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The new model folder; must not be there yet.",
)
@click.option(
    "--min-cosine", default=_INT8.min_cosine, show_default=True, help="Of the worst text."
)
@click.option("--mean-cosine", default=_INT8.mean_cosine, show_default=True, help="Over all texts.")
@click.option(
    "--top-10-overlap",
    default=_INT8.top_10_overlap,
    show_default=True,
    help="Part of a text's ten nearest others that must stay.",
)
@encoder_options.settings
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of words.")
def optimize(
    settings: EncoderSettings,
    texts: Path,
    out: Path,
    min_cosine: float,
    mean_cosine: float,
    top_10_overlap: float,
    as_json: bool,
) -> None:
    """Quantise a model to int8, where enough of its quality is kept.

    Half of the texts (3,000 at most) calibrate, others judge, and golden texts with them: their
    int8 vectors are compared with float32's. Nothing is written where no recipe passes; the
    folder's note says what it kept. An adapter becomes part of the new folder's weights.
    """
    gate = Gate(min_cosine, mean_cosine, top_10_overlap)
    say = Console(stderr=True, highlight=False).print
    with encoder_options.one_line_errors():
        # Here, not above: NNCF takes seconds to import, and other commands have no use for it.
        from rankstream.server.encoder.optimize import optimize as made_of

        made = made_of(settings, read_texts("texts", texts), out, say, gate)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(made), default=str))
        return
    kept = made.quality
    click.echo(
        f"{made.folder}: {made.bytes_before / 1e6:.0f} MB became {made.bytes_after / 1e6:.0f} "
        f"({made.recipe}).\nOf {kept.texts} texts: minimum cosine {kept.min_cosine:.4f}, mean "
        f"{kept.mean_cosine:.4f}"
        + ("" if kept.top_10_overlap is None else f", top-10 overlap {kept.top_10_overlap:.3f}")
        + f"; of the golden texts at least {made.golden.min_cosine:.4f}."
    )
    speeds = made.tokens_per_s
    click.echo(f"On this machine: {speeds['int8'] / speeds['f32']:.2f} times the speed of float32.")
