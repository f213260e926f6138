"""Where models come from: cards, single files, converters."""
