// Which instruction sets the processor and the operating system support.
#pragma once

#include <string>
#include <vector>

namespace biper {

// The names that biper.runtime.cpu.instruction_sets lists, oldest first.
std::vector<std::string> instruction_sets();

}  // namespace biper
