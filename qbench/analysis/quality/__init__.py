"""What a model's outputs are worth: accuracy by the metrics of its task, and fidelity."""
