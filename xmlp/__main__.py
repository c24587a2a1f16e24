"""`python -m xmlp` is the command `xmlp`."""

from xmlp.cli import main

if __name__ == "__main__":
    main(prog_name="xmlp")
