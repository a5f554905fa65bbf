"""File and folder names that are valid on every system."""

LONGEST_NAME = 240
"""In bytes. Most file systems allow 255, and an extension follows."""

SHOWN = 100
"""The maximum number of characters of a name shown in a message."""

FORBIDDEN = '/\\:*?"<>|'
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")}
"""Names that Windows treats as devices, with any extension."""


def check_name(name: str, what: str) -> None:
    """ValueError if `name` is not a valid file or folder name on Windows, macOS and Linux.

    what: what the name is for, for the message.
    """
    if not name:
        wrong = "It is empty."
    elif not name.isprintable() or set(name) & set(FORBIDDEN):
        wrong = f"It must not contain any of {' '.join(FORBIDDEN)} or invisible characters."
    elif name[0] == "." or name[-1] in ". ":
        wrong = "It must not begin with a period, or end with a period or a space."
    elif name.split(".")[0].rstrip().lower() in DEVICES:
        wrong = "Windows reserves this name for a device."
    elif len(name.encode()) > LONGEST_NAME:
        wrong = f"It is too long: it can have {LONGEST_NAME} bytes, which is {LONGEST_NAME} Latin letters or " \
                f"{LONGEST_NAME // 3} Chinese characters."
    else:
        return
    raise ValueError(f"{what} {name[:SHOWN]!r} is not a valid file name. {wrong} Choose a name such as my_layers.")
