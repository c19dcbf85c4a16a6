"""What benchmarks/gpu.py does on a GPU, part by part; gpu_tables.py makes tables of what it found."""
