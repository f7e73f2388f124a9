"""The Python side of the native training kernels: each file calls the file of the same name in ``native/training``.

The kernels are compiled for AVX2, AVX-512 and AMX. Where they cannot run,
`biper.fast.availability.unavailable_reason` returns the reason, and the callers (`biper.nn`, `biper.quantizers`,
`biper.data.transforms`) use torch's operators instead.
"""
