// The inputs that all frameworks of a run share byte for byte (train_server/README.md). The host has verified their SHA-256.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "idx.h"
#include "safetensors.h"
#include "spec.h"

struct Conditions {
  Spec spec;
  Tensors weights;   // the initial weights
  at::Tensor order;  // int32 (epochs, steps, batch): the training samples of each step
  at::Tensor rates;  // float64 (epochs, steps): the learning rate of each step
  Split train, test;
};

// The name and shape of every weight, in PyTorch's layout.
const std::vector<std::pair<std::string, std::vector<int64_t>>>& lenet5_shapes();

// Reads the conditions. Throws Error if a file is missing or damaged, or does not have the shapes that the spec requires.
Conditions load_conditions(const std::filesystem::path& spec, const std::filesystem::path& data, const std::filesystem::path& conditions);
