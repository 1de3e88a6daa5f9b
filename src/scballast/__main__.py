"""``python -m scballast`` is ``scballast``, for environments whose commands are not on the path."""

from scballast.commands.terminal import main

if __name__ == "__main__":
    main()
