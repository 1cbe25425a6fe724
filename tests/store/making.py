"""Runs that are made, and what the store says of them."""

import xarray as xr

from translimit.store import (
    CellAddress,
    write_cell,
)

INFO = {
    "status": "running",
    "digest": "d" * 64,
    "command": "translimit run a/b",
    "seed": 0,
    "threads": 1,
    "experiments": [
        {
            "name": "a/b",
            "config": {"n": 3},
            "cells": [{"name": name, "parameters": {}, "digest": "0"} for name in ("one", "two")],
        }
    ],
}


def store(path, *cells):
    for cell in cells:
        write_cell(CellAddress(path, "a/b", cell, "0"), xr.Dataset({"x": ((), float(len(cell)))}))
