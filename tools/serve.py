"""Start ComfyUI with the pack, print its address, and run it until Ctrl-C."""

import sys

from .client import HostError
from .host import Server


def main(arguments: list[str]) -> int:
    """Run the server until interrupted. `arguments` are passed on to ComfyUI's main.py."""
    if {"-h", "--help"} & set(arguments):
        print(f"usage: dev.py serve [options for ComfyUI's main.py, such as --cpu]\n\n{__doc__}")
        return 0
    print("Starting ComfyUI ...", flush=True)
    try:
        with Server("serve", "--preview-method", "auto", *arguments, with_all_packs=True) as server:
            print(f"ComfyUI is running at {server.client.address} (press Ctrl-C to stop it). Log: {server.log}",
                  flush=True)
            return server.wait()
    except HostError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
