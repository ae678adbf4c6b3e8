// The safetensors format: named tensors in one file. https://github.com/huggingface/safetensors#format
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>

using Tensors = std::map<std::string, at::Tensor>;

// Parses a safetensors file; `name` is its name in errors. Throws Error if `content` is not a complete, valid file.
Tensors parse_safetensors(const std::string& name, std::string_view content);

// Returns the content of a safetensors file.
std::string to_safetensors(const Tensors& tensors);

// Returns the tensor `key`. Throws Error if it is missing or has another type or shape.
at::Tensor expect_tensor(const std::string& name, const Tensors& tensors, const std::string& key, at::ScalarType type,
                         at::IntArrayRef shape);
