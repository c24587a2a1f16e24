"""What people hold: the network, the trainer, and what gives a trainer its batches."""

from xmlp.model import mlp, network, stream, trainer

network.Network.trained_by = trainer.Trainer

__all__ = ["mlp", "network", "stream", "trainer"]
