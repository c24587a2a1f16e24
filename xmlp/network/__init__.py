"""A network as functions of arrays: chain of layers, layout, links and decisions, and the boundary of its inputs."""
