#include "spec.h"

#include <cmath>
#include <functional>

#include "error.h"

namespace {

using Json = nlohmann::ordered_json;

// Takes one field after the other out of the JSON; what is left at the end is unknown.
class Fields {
 public:
  Fields(std::string file, Json json) : file_(std::move(file)), json_(std::move(json)) {}

  std::string text(const char* name, const std::vector<std::string>& allowed = {}) {
    const Json value = take(name);
    if (!value.is_string()) fail(name, "must be a string", value);
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
      fail(name, "must be one of " + Json(allowed).dump(), value);
    }
    return value;
  }

  int64_t integer(const char* name, int64_t least) {
    const Json value = take(name);
    if (!value.is_number_integer() || value.get<int64_t>() < least) {
      std::string rule = "must be an integer, at least ";
      fail(name, rule += std::to_string(least), value);
    }
    return value;
  }

  double real(const char* name, const std::string& range, const std::function<bool(double)>& inside) {
    const Json value = take(name);
    if (!value.is_number() || !std::isfinite(value.get<double>()) || !inside(value)) fail(name, "must be a number" + range, value);
    return value;
  }

  void end() const {
    if (!json_.empty()) fail(json_.begin().key(), "is not a field of a spec: remove it", json_.begin().value());
  }

  [[noreturn]] void fail(const std::string& name, const std::string& rule, const Json& found) const {
    throw Error("spec " + file_ + ": " + name + ": " + rule + " (found " + found.dump() + ")");
  }

 private:
  Json take(const char* name) {
    if (!json_.contains(name)) throw Error("spec " + file_ + ": " + name + " is missing: add it");
    Json value = json_[name];
    json_.erase(name);
    return value;
  }

  std::string file_;
  Json json_;
};

}  // namespace

Spec parse_spec(const std::filesystem::path& file, const std::string& text) {
  Spec spec;
  spec.json = Json::parse(text, nullptr, false);
  if (!spec.json.is_object()) throw Error("spec " + file.string() + " is not a JSON object: write it as train_server/README.md shows");

  Fields fields(file.string(), spec.json);
  const auto positive = [](double value) { return value > 0; };
  const auto decay = [](double value) { return value >= 0 && value < 1; };
  fields.text("model", {"lenet5"});
  spec.dataset = fields.text("dataset");
  spec.mean = fields.real("mean", "", [](double) { return true; });
  spec.std = fields.real("std", " above 0", positive);
  spec.samples = fields.integer("samples", 1);
  spec.epochs = fields.integer("epochs", 1);
  spec.batch_size = fields.integer("batch_size", 1);
  // The rates come ready made from the conditions: here these three are only checked.
  fields.real("learning_rate", " above 0", positive);
  fields.text("schedule", {"constant", "cosine"});
  fields.integer("seed", 0);
  spec.beta1 = fields.real("beta1", " from 0 to below 1", decay);
  spec.beta2 = fields.real("beta2", " from 0 to below 1", decay);
  spec.epsilon = fields.real("epsilon", " above 0", positive);
  spec.threads = fields.integer("threads", 1);
  fields.end();
  if (spec.samples < spec.batch_size) {
    fields.fail("samples", "is less than one batch of " + std::to_string(spec.batch_size) + ": ask for more, or a smaller batch_size",
                spec.samples);
  }
  return spec;
}
