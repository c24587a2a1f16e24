"""A plugin of pytest: the emitted C on this CPU passes for cupy, so that the tests for a device can run."""

from functools import cache

import xmlp.backends


def pytest_configure(config):
    from cuda_static.host import HostBackend

    class CupyBackend(HostBackend):
        def __init__(self, device, dtype):
            super().__init__(dtype)

    original = xmlp.backends._make

    @cache
    def make(library, device, dtype, *options):
        return CupyBackend(device, dtype) if library == "cupy" else original(library, device, dtype, *options)

    xmlp.backends._make = make
