// What the processor and the operating system offer: instruction sets, and processors to run on.
#pragma once

#include <string>
#include <vector>

namespace biper {

// The names that biper.runtime.cpu.instruction_sets lists, oldest first.
std::vector<std::string> instruction_sets();

// The number of processors that the calling thread may run on, at least 1.
int usable_processors();

}  // namespace biper
