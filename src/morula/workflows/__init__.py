"""The verbs: train, predict, segment, evaluate, run, new, check. Each yields events; faces read them."""
