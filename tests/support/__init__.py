"""Helpers of the tests: networks, programs, pictures, processes, compilers and a browser."""
