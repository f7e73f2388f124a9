// Building the engine of a program that was read and checked; biper.runtime.engine does the same in Python.
#pragma once

#include "capi/program.h"
#include "engine/engine.h"

namespace biper::capi {

// Adds the operations of a program to an engine for its images, and its results. Throws std::invalid_argument where the
// engine refuses one.
void build_engine(const Program& program, Engine& engine);

}  // namespace biper::capi
