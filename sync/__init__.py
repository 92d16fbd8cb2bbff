"""What the product does: observe, match, decide, plan, act, notify, and the runs that walk these phases."""
