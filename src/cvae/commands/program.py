"""The program `cvae` and its sub-commands."""

import sys
from importlib import import_module

import click

from cvae.commands.runner import run
from cvae.support.errors import one_line

COMMANDS = {  # module and help line of each; a module is imported only if its command runs, because imports are slow
    "sample": ("cvae.commands.sample.command", "Draw pictures with a trained model."),
    "compare": ("cvae.commands.compare.command", "Compare DVC experiments, as tables and a picture."),
    "tune": ("cvae.commands.tune.command", "Search for good parameters."),
    "explore": ("cvae.commands.explore", "Open a page that runs a model in the browser."),
    "ui": ("cvae.commands.ui", "Start the MLflow UI on this repository's runs."),
    "serve": ("cvae.commands.serve", "Serve a model over HTTP on this machine."),
}
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True}


class Program(click.Group):
    """Find sub-commands in `COMMANDS`; click suggests one if a name is misspelt."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        if name not in COMMANDS:
            raise click.exceptions.NoSuchCommand(name, possibilities=COMMANDS, ctx=ctx)
        return getattr(import_module(COMMANDS[name][0]), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=Program, context_settings=SETTINGS)
def program() -> None:
    """Draw pictures with trained models, compare experiments, search for parameters, and start servers.

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
        is_unlike_all = not getattr(error, "possibilities", True)  # click found no similar name
        advice = f" `{error.ctx.command_path} --help` lists what there is." if is_unlike_all else ""
        print(f"{name}: {one_line(error.format_message())}{advice}", file=sys.stderr, flush=True)
        sys.exit(2)
    except click.exceptions.Exit as done:  # after --help
        sys.exit(done.exit_code)
