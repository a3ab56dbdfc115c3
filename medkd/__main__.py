"""Run the command line as `python -m medkd`, for example with `torchrun -m medkd`."""

from medkd.cli import main

if __name__ == "__main__":
    main()
