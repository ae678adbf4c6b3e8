// Shared fixtures: a temporary folder, IDX files, a small data set with its conditions.
#pragma once

#include <ATen/ATen.h>
#include <doctest/doctest.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "conditions.h"
#include "error.h"
#include "files.h"
#include "safetensors.h"

// Checks that the text of an Error contains `part`; doctest's own macros compare the whole text.
#define CHECK_ERROR(expression, part)            \
  do {                                           \
    std::string text = "nothing thrown";         \
    try {                                        \
      (void)(expression);                        \
    } catch (const Error& error) {               \
      text = error.what();                       \
    }                                            \
    INFO(text);                                  \
    CHECK(text.find(part) != std::string::npos); \
  } while (false)

struct Folder {
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lenet5-test-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path operator/(const std::string& name) const { return path / name; }

  std::filesystem::path path;
};

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

inline std::string idx_bytes(const at::Tensor& values) {
  std::string bytes{0, 0, 8, static_cast<char>(values.dim())};
  for (const int64_t extent : values.sizes()) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(extent >> shift);
  }
  return bytes.append(static_cast<const char*>(values.const_data_ptr()), values.numel());
}

inline void write_gzip(const std::filesystem::path& file, const std::string& content) {
  gzFile stream = gzopen(file.c_str(), "wb");
  REQUIRE(gzwrite(stream, content.data(), content.size()) == static_cast<int>(content.size()));
  REQUIRE(gzclose(stream) == Z_OK);
}

inline Tensors random_weights() {
  at::manual_seed(1);
  Tensors weights;
  for (const auto& [name, shape] : lenet5_shapes()) weights[name] = at::randn(shape) * 0.1;
  return weights;
}

inline nlohmann::json small_spec() {
  return {{"model", "lenet5"}, {"dataset", "bars"},     {"mean", 0.25}, {"std", 0.5},     {"samples", 640},  {"epochs", 3},
          {"batch_size", 32},  {"learning_rate", 0.01}, {"beta1", 0.9}, {"beta2", 0.999}, {"epsilon", 1e-8}, {"schedule", "constant"},
          {"seed", 1},         {"threads", 1}};
}

// A data set that is quick to learn, a bright bar whose height encodes the label, and the conditions to train on it.
struct SmallRun : Folder {
  explicit SmallRun(nlohmann::json spec = small_spec()) {
    at::manual_seed(2);
    std::filesystem::create_directories(path / "data");
    std::filesystem::create_directories(path / "conditions");
    for (const auto& [name, count] : {std::pair("train", 700), std::pair("t10k", 100)}) {
      const at::Tensor labels = at::randint(10, {count}, at::kByte);
      const at::Tensor images = at::randint(64, {count, 28, 28}, at::kByte);
      for (int64_t i = 0; i < count; ++i) images[i].narrow(0, 2 * labels[i].item<int64_t>() + 3, 3).fill_(255);
      const std::string prefix = name;
      write_gzip(path / "data" / (prefix + "-images-idx3-ubyte.gz"), idx_bytes(images));
      write_file(path / "data" / (prefix + "-labels-idx1-ubyte"), idx_bytes(labels));
    }
    const int64_t epochs = spec["epochs"], batch = spec["batch_size"], steps = spec["samples"].get<int64_t>() / batch;
    const at::Tensor rates = at::full({epochs * steps}, spec["learning_rate"].get<double>(), at::kDouble);
    std::vector<at::Tensor> order;
    for (int64_t i = 0; i < epochs; ++i) order.push_back(at::randperm(700, at::kInt).narrow(0, 0, steps * batch).view({steps, batch}));
    write_file(path / "spec.json", spec.dump());
    write_file(path / "conditions/weights.safetensors", to_safetensors(random_weights()));
    write_file(path / "conditions/schedule.safetensors", to_safetensors({{"order", at::stack(order)}, {"learning_rate", rates}}));
  }
};
