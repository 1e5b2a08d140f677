"""The training loop: options, exact optimisation steps, checkpoints, schedules, and readers that write the logs.

`loop.fit` yields events and needs torch; `options` can be imported without it.
"""
