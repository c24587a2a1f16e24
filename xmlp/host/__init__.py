"""Services of the host that no array library knows: host arrays, memory, seeds, files, locks, checked settings."""
