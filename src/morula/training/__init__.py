"""The training loop: options, one exact step, checkpoints, schedules, and readers that write its logs.

`fit` (in `loop`) yields events and needs torch; `options` can be imported without it.
"""
