"""What a run learns: one label for each image, or several."""

SINGLE, MULTI = "single", "multi"
