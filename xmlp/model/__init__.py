"""What people hold: the network and the trainer."""
