#include "conditions.h"

#include <ATen/ATen.h>

#include "error.h"
#include "files.h"
#include "lenet5.h"

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

void check_digest(const std::string& file, const std::string& found, const Json& digests, const std::string& name,
                  const std::string& next) {
  const std::string expected = digests.value(name, "none");
  if (found != expected) throw Error(file + " has SHA-256 " + found + ", conditions.json says " + expected + ": " + next);
}

Tensors load(const fs::path& file, const Json& digests) {
  const std::string content = read_file(file);
  check_digest(file.string(), sha256(content), digests, file.filename(), "draw the conditions again");
  return parse_safetensors(file.string(), content);
}

Split load(const fs::path& folder, const std::string& name, const Json& digests) {
  const Split split = read_split(folder, name);
  const auto check = [&](const std::string& file, const std::string& digest) {
    check_digest((folder / file).string(), digest, digests, file, "give the data set that the conditions were drawn for");
  };
  check(name + "-images-idx3-ubyte", split.images_sha256);
  check(name + "-labels-idx1-ubyte", split.labels_sha256);
  return split;
}

}  // namespace

Conditions load_conditions(const fs::path& spec, const fs::path& data, const fs::path& folder) {
  const fs::path file = folder / "conditions.json";
  const Json json = Json::parse(read_file(file), nullptr, false);
  Json digests, data_digests;
  try {
    digests = json.at("files");
    data_digests = json.at("dataset").at("files");
  } catch (const Json::exception& error) {
    throw Error(file.string() + " is not what train_server/README.md describes (" + error.what() + "): draw the conditions again");
  }

  Conditions conditions;
  conditions.dataset = json["dataset"];
  const std::string text = read_file(spec);
  check_digest(spec.string(), sha256(text), digests, "spec.json", "give the spec that the conditions were drawn for");
  conditions.spec = parse_spec(spec, text);

  const Tensors weights = load(folder / "weights.safetensors", digests);
  for (const auto& [name, shape] : lenet5_shapes()) {
    conditions.weights[name] = expect_tensor((folder / "weights.safetensors").string(), weights, name, at::kFloat, shape);
  }

  const Spec& s = conditions.spec;
  const std::string schedule_file = (folder / "schedule.safetensors").string();
  const Tensors schedule = load(schedule_file, digests);
  conditions.order = expect_tensor(schedule_file, schedule, "order", at::kInt, {s.epochs, s.steps_per_epoch(), s.batch_size});
  conditions.rates = expect_tensor(schedule_file, schedule, "learning_rate", at::kDouble, {s.steps()});

  conditions.train = load(data, "train", data_digests);
  conditions.test = load(data, "t10k", data_digests);
  const auto [least, most] = at::aminmax(conditions.order);
  const int64_t available = conditions.train.images.size(0);
  if (least.item<int64_t>() < 0 || most.item<int64_t>() >= available) {
    throw Error(schedule_file + " asks for samples " + std::to_string(least.item<int64_t>()) + " to " +
                std::to_string(most.item<int64_t>()) + " of " + std::to_string(available) + ": draw the conditions again");
  }
  return conditions;
}
