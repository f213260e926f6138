"""Score the outputs of an evaluation: accuracy by the metrics of its task, and fidelity."""
