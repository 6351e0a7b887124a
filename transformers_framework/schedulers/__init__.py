"""Schedules of the learning rate: pure functions of the step, their signatures are flags."""
