// safetensors: named tensors in one file. https://github.com/huggingface/safetensors#format
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>

using Tensors = std::map<std::string, at::Tensor>;

// `name` is what an error calls the content. Throws Error if it is not a whole, valid safetensors file.
Tensors parse_safetensors(const std::string& name, std::string_view content);

// The bytes of a safetensors file.
std::string to_safetensors(const Tensors& tensors);

// The tensor called `key`. Throws Error if it is missing or of another type or shape.
at::Tensor expect_tensor(const std::string& name, const Tensors& tensors, const std::string& key, at::ScalarType type,
                         at::IntArrayRef shape);
