"""`python -m cvae`: the same as the program `cvae`."""

from cvae.commands.runner import end_quietly_when_interrupted


def main() -> None:
    end_quietly_when_interrupted()  # before the imports that take a moment

    from cvae.commands.program import main

    main()


if __name__ == "__main__":
    main()
