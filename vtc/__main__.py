"""`python -m vtc`."""

from vtc.cli.main import main

if __name__ == "__main__":
    main()
