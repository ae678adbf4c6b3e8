// The spec, which determines the result of a training run. The host has validated it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

struct Spec {
  std::string dataset;
  double mean, std;  // of the training pixels in 0..1
  int64_t samples, epochs, batch_size;
  double beta1, beta2, epsilon;
  int64_t threads;

  int64_t steps_per_epoch() const { return samples / batch_size; }  // samples that do not fill the last batch are left out
  int64_t steps() const { return epochs * steps_per_epoch(); }
};

// Reads a spec. Throws Error if the file cannot be read, or a field is missing or has another type.
Spec read_spec(const std::filesystem::path& file);
