// The IDX format of MNIST (http://yann.lecun.com/exdb/mnist), plain or gzipped.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

// Reads `folder`/`name` or `folder`/`name`.gz, uint8. Throws Error if neither exists, or if the file is damaged, is not an IDX file of
// bytes, or does not have this number of dimensions.
at::Tensor read_idx(const std::filesystem::path& folder, const std::string& name, int64_t dimensions);

struct Split {
  at::Tensor images;  // uint8 (N,28,28)
  at::Tensor labels;  // uint8 (N), 0..9
};

// Reads `name`-images-idx3-ubyte and `name`-labels-idx1-ubyte.
Split read_split(const std::filesystem::path& folder, const std::string& name);
