#include "spec.h"

#include <nlohmann/json.hpp>

#include "error.h"
#include "files.h"

Spec read_spec(const std::filesystem::path& file) {
  const auto json = nlohmann::json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  try {
    return {.dataset = json.at("dataset"),
            .mean = json.at("mean"),
            .std = json.at("std"),
            .samples = json.at("samples"),
            .epochs = json.at("epochs"),
            .batch_size = json.at("batch_size"),
            .beta1 = json.at("beta1"),
            .beta2 = json.at("beta2"),
            .epsilon = json.at("epsilon"),
            .threads = json.at("threads")};
  } catch (const nlohmann::json::exception& error) {
    throw Error("spec " + file.string() + " does not have the format in train_server/README.md (" + error.what() + "): write it again");
  }
}
