// The spec: everything that decides a training run's result.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

struct Spec {
  std::string dataset;
  double mean, std;  // of the training pixels in 0..1
  int64_t samples, epochs, batch_size;
  double beta1, beta2, epsilon;
  int64_t threads;
  nlohmann::ordered_json json;  // as it was given, for the manifest

  int64_t steps_per_epoch() const { return samples / batch_size; }  // what does not fill the last batch is left out
  int64_t steps() const { return epochs * steps_per_epoch(); }
};

// Throws Error for a field that is missing, unknown, of the wrong type or out of range.
Spec parse_spec(const std::filesystem::path& file, const std::string& text);
