"""The program `cvae` and its sub-commands."""

import sys
from importlib import import_module

import click

from cvae.commands.runner import run
from cvae.support.errors import one_line, suggest

COMMANDS = {  # module and help line of each; a module is imported only if its command runs, because imports are slow
    "sample": ("cvae.commands.sample.command", "Draw pictures with a trained model."),
    "compare": ("cvae.commands.compare.command", "Compare DVC experiments, as tables and a picture."),
    "ui": ("cvae.commands.ui", "Start the MLflow UI on this repository's runs."),
    "serve": ("cvae.commands.serve", "Serve a model over HTTP on this machine."),
}
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True}


class Program(click.Group):
    """Find sub-commands in `COMMANDS`, and suggest one if a name is misspelt."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return getattr(import_module(COMMANDS[name][0]), name) if name in COMMANDS else None

    def resolve_command(self, ctx: click.Context, args: list[str]):
        require_known(args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def require_known(name: str, known) -> None:
    """Raise a usage error if no sub-command is called `name`; suggest one of `known`."""
    if name not in known and not name.startswith("-"):
        advice = suggest(name, known, f"choose from {', '.join(known)}")
        raise click.UsageError(f"no such command {name!r:.40}; {advice}")


@click.command(cls=Program, context_settings=SETTINGS)
def program() -> None:
    """Draw pictures with trained models, compare experiments, and start servers.

    Run it from the root of the repository.
    """


def main() -> None:
    arguments = sys.argv[1:]
    name = arguments[0] if arguments and arguments[0] in COMMANDS else "cvae"
    run(name, lambda: invoke(name, arguments))


def invoke(name: str, arguments: list[str]) -> None:
    """Run the program. A mistake in `arguments` ends it with one line, starting with `name`, and exit status 2."""
    try:
        with program.make_context("cvae", arguments) as context:
            program.invoke(context)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        sys.exit(2)
    except click.UsageError as error:
        print(f"{name}: {one_line(error.format_message())}", file=sys.stderr, flush=True)
        sys.exit(2)
    except click.exceptions.Exit as done:  # after --help
        sys.exit(done.exit_code)
