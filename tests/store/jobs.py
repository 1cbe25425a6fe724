"""Runs, and jobs of their starts."""

import xarray as xr


def data(value=1.0):
    return xr.Dataset({"x": ((), value)})
