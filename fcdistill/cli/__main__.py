"""`python -m fcdistill.cli`: the command line where no script is installed, and under a launcher."""

from fcdistill.cli import main

if __name__ == "__main__":
    main()
