"""The job: one strict model, YAML with line numbers, the planning of what was left out, the run folder and the trained model in it."""
