"""Horizons: does a best learning rate stay the best in longer runs, schedules and other batches?"""
