"""Starting the processes of a run: on this machine, by torchrun, or by SLURM."""
