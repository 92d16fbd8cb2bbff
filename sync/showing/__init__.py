"""What pages show of devices: lists, stories, explanations, words. Reads only."""
