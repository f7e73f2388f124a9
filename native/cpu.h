// Which instruction sets the processor and the operating system support, asked once at run time.
#pragma once

#include <string>
#include <vector>

namespace biper {

// Names as in biper.runtime.cpu.instruction_sets, oldest first.
std::vector<std::string> instruction_sets();

}  // namespace biper
