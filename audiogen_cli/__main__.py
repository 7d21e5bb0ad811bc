"""`python -m audiogen_cli` is `audiolm`."""

from audiogen_cli.cli.main import main

if __name__ == "__main__":
    main()
