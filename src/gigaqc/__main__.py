"""``python -m gigaqc`` is the command line."""

from gigaqc.cli import main

if __name__ == "__main__":
    main()
