"""Programs around the codec: the demo, the second decoder."""
