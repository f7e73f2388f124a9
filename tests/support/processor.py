"""What the processor that runs the tests can do."""

from __future__ import annotations

import platform

from biper.runtime.cpu import instruction_sets

OPENVINO_INT8_SATURATES = platform.machine() in ("x86_64", "AMD64") and "avx512vnni" not in instruction_sets()
"""Whether OpenVINO's int8 sums may be wrong here: without VNNI it adds pairs of products in 16 bits, which saturate."""
