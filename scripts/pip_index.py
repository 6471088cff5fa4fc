"""Print the package index that pip is set up for, so that Poetry uses the same one."""

from pip._internal.commands import create_command


def main() -> None:
    # pip merges its files, the environment and its own default into the options of a command.
    options, _ = create_command("install").parse_args([])
    print(options.index_url)


if __name__ == "__main__":
    main()
