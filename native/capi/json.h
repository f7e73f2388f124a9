// JSON values, read strictly: UTF-8, no key twice in an object, not deeper than kDeepest.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace biper::capi {

inline constexpr int kDeepest = 100;

struct Object;

// A value takes 16 bytes, beside what it points to. An integer beyond 64 bits is a `double`.
struct Json {
  Json();
  Json(Json&&) noexcept;
  Json& operator=(Json&&) noexcept;
  ~Json();

  bool is_null() const { return std::holds_alternative<std::monostate>(value); }
  const bool* flag() const { return std::get_if<bool>(&value); }
  const std::int64_t* integer() const { return std::get_if<std::int64_t>(&value); }
  std::optional<double> number() const;  // of an integer too
  const std::string* text() const;
  const std::vector<Json>* list() const;
  const Object* object() const;

  std::variant<std::monostate, bool, std::int64_t, double, std::unique_ptr<std::string>,
               std::unique_ptr<std::vector<Json>>, std::unique_ptr<Object>>
      value;
};

struct Member {
  std::string key;
  Json value;
};

// The members of an object in the order of the file.
struct Object {
  std::vector<Member> members;
  std::vector<std::uint32_t> sorted;  // their indices in the order of the keys

  const Json* find(std::string_view key) const;  // null where there is none
};

// The value that a text has; nothing where it is no JSON, or is no JSON that these rules allow.
std::optional<Json> parse_json(std::string_view text);

}  // namespace biper::capi
