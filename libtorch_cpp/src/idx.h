// The IDX format of MNIST (http://yann.lecun.com/exdb/mnist), plain or gzipped.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

struct Idx {
  at::Tensor values;   // uint8, as many dimensions as were asked for
  std::string sha256;  // of the uncompressed bytes
};

// Reads `folder`/`name`, or `name`.gz if that is there. Throws Error if neither is, or if it is truncated, not IDX of bytes
// or of another number of dimensions.
Idx read_idx(const std::filesystem::path& folder, const std::string& name, int64_t dimensions);

struct Split {
  at::Tensor images;  // uint8 (N,28,28)
  at::Tensor labels;  // uint8 (N), 0..9
  std::string images_sha256, labels_sha256;
};

// Reads `name`-images-idx3-ubyte and `name`-labels-idx1-ubyte. Throws Error if they do not belong together.
Split read_split(const std::filesystem::path& folder, const std::string& name);
