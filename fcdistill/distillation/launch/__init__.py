"""How a training is started: the Trainer's arguments, several processes, sharding strategies."""
