// The text of the last error of a thread.
#pragma once

namespace biper::capi {

void remember(const char* text) noexcept;
const char* remembered() noexcept;

}  // namespace biper::capi
