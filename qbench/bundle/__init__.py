"""The folder that a run leaves: records, finding, checking, packing, redacting, pruning."""
