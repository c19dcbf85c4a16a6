"""What an app that imports xcnn needs beside what its imports tell: plug-ins, what is imported late, and files.

Plug-ins bring their libraries, where these are installed: `--exclude-module torch` leaves one out.
"""

from PyInstaller.utils.hooks import (
    collect_data_files,
    collect_dynamic_libs,
    collect_entry_point,
    collect_submodules,
)

binaries = []
datas, plugins = collect_entry_point("xcnn.backends")
hiddenimports = ["array_api_compat.numpy", "array_api_compat.numpy.fft", "array_api_compat.numpy.linalg"]
for package in ("xcnn", "xcnn_host", "xcnn_native", "xcnn_strided", *plugins):
    hiddenimports += collect_submodules(package)
    datas += collect_data_files(package)
    binaries += collect_dynamic_libs(package)
