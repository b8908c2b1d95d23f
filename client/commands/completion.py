"""``rankstream completion``: what makes a shell complete commands and options."""

from __future__ import annotations

import click

from rankstream.client.commands.choices import example

_NAME = "rankstream"


@click.command(
    epilog=example("completion bash > ~/.local/share/bash-completion/completions/rankstream")
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes this command in SHELL; it asks the command itself."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        message = f"this version of click knows no completion of {shell}"
        raise click.ClickException(message)
    # click's own bash script asks bash for its version before it is printed; nobody needs that.
    made = kind(click.Command(_NAME), {}, _NAME, f"_{_NAME.upper()}_COMPLETE")
    click.echo(made.source_template % made.source_vars())
