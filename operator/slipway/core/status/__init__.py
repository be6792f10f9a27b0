"""What a ModelDeployment's status says, computed from what the cluster shows; written nowhere else."""
