"""What follows a run: files, progress bar, W&B, TensorBoard, Trackio."""
