"""`python -m cvae`: the same as the program `cvae`."""

from cvae.commands.program import main

if __name__ == "__main__":
    main()
