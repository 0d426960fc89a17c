"""What watches a training: accuracy, progress, checkpoints, experiment trackers."""
