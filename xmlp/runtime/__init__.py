"""Engines: what runs plans on a processor or a CUDA device, and what they need for it."""
