#include "capi/error_text.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iterator>

namespace biper::capi {
namespace {

constexpr std::size_t kLongestText = 500;

thread_local char error_text[kLongestText + 1];

// Whether a terminal shows a letter as it is: no control character, none that turns the direction of the text or that
// has no width or no meaning.
bool is_shown(std::uint32_t letter) {
  struct Range {
    std::uint32_t first, last;
  };
  static constexpr Range kHidden[] = {
      {0, 0x1f},        {0x7f, 0xa0},     {0xad, 0xad},     {0x600, 0x605},   {0x61c, 0x61c},     {0x6dd, 0x6dd},
      {0x70f, 0x70f},   {0x180e, 0x180e}, {0x2000, 0x200f}, {0x2028, 0x202f}, {0x205f, 0x206f},   {0x3000, 0x3000},
      {0xd800, 0xf8ff}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xfff0, 0xffff}, {0x1d173, 0x1d17a}, {0xe0000, 0x10ffff}};
  return std::none_of(std::begin(kHidden), std::end(kHidden),
                      [&](const Range& range) { return letter >= range.first && letter <= range.last; });
}

}  // namespace

// Keeps a text of UTF-8 in one line, cut to what has room. Files may contain anything, and a terminal obeys control
// characters: these are written as bytes, "\x1b" for example.
void remember(const char* text) noexcept {
  std::size_t used = 0;
  while (*text) {
    const auto first = static_cast<unsigned char>(*text);
    int length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    std::uint32_t letter = first < 0x80 ? first : first & (0x7f >> length);
    for (int i = 1; i < length; ++i) {
      const auto next = static_cast<unsigned char>(text[i]);
      if ((next & 0xc0) != 0x80) {  // no UTF-8: a text that was cut, or of the system
        length = i, letter = 0;
        break;
      }
      letter = letter << 6 | (next & 0x3f);
    }
    const bool shown = is_shown(letter);
    if (used + static_cast<std::size_t>(shown ? length : 4 * length) > kLongestText) break;
    for (int i = 0; i < length; ++i, ++text) {
      if (shown)
        error_text[used++] = *text;
      else
        used += static_cast<std::size_t>(
            std::snprintf(error_text + used, 5, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(*text))));
    }
  }
  error_text[used] = '\0';
}

const char* remembered() noexcept { return error_text; }

}  // namespace biper::capi
