translimit run castin2025/bures-convexity --preset demo --out run >/dev/null 2>&1
translimit export run --out bures.nc >/dev/null
python -c "import xarray; print(list(xarray.open_datatree('bures.nc', engine='h5netcdf').children))"
