#include "capi/json.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

namespace biper::capi {

Json::Json() = default;
Json::Json(Json&&) noexcept = default;
Json& Json::operator=(Json&&) noexcept = default;
Json::~Json() = default;

std::optional<double> Json::number() const {
  if (const auto* whole = integer()) return static_cast<double>(*whole);
  if (const auto* found = std::get_if<double>(&value)) return *found;
  return std::nullopt;
}

const std::string* Json::text() const {
  const auto* found = std::get_if<std::unique_ptr<std::string>>(&value);
  return found ? found->get() : nullptr;
}

const std::vector<Json>* Json::list() const {
  const auto* found = std::get_if<std::unique_ptr<std::vector<Json>>>(&value);
  return found ? found->get() : nullptr;
}

const Object* Json::object() const {
  const auto* found = std::get_if<std::unique_ptr<Object>>(&value);
  return found ? found->get() : nullptr;
}

const Json* Object::find(std::string_view key) const {
  const auto place = std::lower_bound(sorted.begin(), sorted.end(), key,
                                      [&](std::uint32_t index, std::string_view k) { return members[index].key < k; });
  return place != sorted.end() && members[*place].key == key ? &members[*place].value : nullptr;
}

namespace {

// Sorts the members; false where a key is there twice.
bool finish(Object& object) {
  object.sorted.resize(object.members.size());
  std::iota(object.sorted.begin(), object.sorted.end(), 0u);
  const auto key = [&](std::uint32_t index) -> const std::string& { return object.members[index].key; };
  std::sort(object.sorted.begin(), object.sorted.end(), [&](auto a, auto b) { return key(a) < key(b); });
  return std::adjacent_find(object.sorted.begin(), object.sorted.end(),
                            [&](auto a, auto b) { return key(a) == key(b); }) == object.sorted.end();
}

// Receives what the parser finds. A method that returns false ends parsing.
class JsonBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return put(Json()); }
  bool boolean(bool flag) override { return put(made(flag)); }
  bool number_integer(std::int64_t number) override { return put(made(number)); }
  bool number_unsigned(std::uint64_t number) override {
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    return put(number <= most ? made(static_cast<std::int64_t>(number)) : made(static_cast<double>(number)));
  }
  bool number_float(double number, const std::string&) override { return put(made(number)); }
  bool string(std::string& text) override { return put(made(std::make_unique<std::string>(std::move(text)))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(made(std::make_unique<Object>())); }
  bool start_array(std::size_t) override { return open(made(std::make_unique<std::vector<Json>>())); }
  bool key(std::string& text) override {
    std::get<std::unique_ptr<Object>>(open_.back().value)->members.push_back({std::move(text), Json()});
    return true;
  }
  bool end_object() override { return finish(*std::get<std::unique_ptr<Object>>(open_.back().value)) && close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

  Json result;

 private:
  template <typename T>
  static Json made(T value) {
    Json json;
    json.value = std::move(value);
    return json;
  }

  bool open(Json container) {
    if (open_.size() >= kDeepest) return false;
    open_.push_back(std::move(container));
    return true;
  }

  bool close() {
    Json whole = std::move(open_.back());
    open_.pop_back();
    return put(std::move(whole));
  }

  bool put(Json value) {
    if (open_.empty()) {
      result = std::move(value);
    } else if (auto* list = std::get_if<std::unique_ptr<std::vector<Json>>>(&open_.back().value)) {
      (*list)->push_back(std::move(value));
    } else {
      std::get<std::unique_ptr<Object>>(open_.back().value)->members.back().value = std::move(value);
    }
    return true;
  }

  std::vector<Json> open_;  // the lists and objects that are not complete
};

}  // namespace

std::optional<Json> parse_json(std::string_view text) {
  // The parser takes a byte of 0 for the end of the text, and skips a byte order mark.
  if (text.find('\0') != text.npos || text.substr(0, 3) == "\xEF\xBB\xBF") return std::nullopt;
  JsonBuilder builder;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return std::nullopt;
  return std::move(builder.result);
}

}  // namespace biper::capi
