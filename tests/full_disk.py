"""A disk that is full, without a disk: the system refuses to write beyond so many bytes of a file."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_disk(bytes_left: int = 600) -> Iterator[None]:
    """Within it, no file can grow beyond so many bytes: writes fail with the error EFBIG, as those on a full disk do with
    ENOSPC. Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
