// What every framework of one run shares byte for byte (train_server/README.md): read, checked against its SHA-256.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "idx.h"
#include "safetensors.h"
#include "spec.h"

struct Conditions {
  Spec spec;
  Tensors weights;                 // the initial ones
  at::Tensor order;                // int32 (epochs, steps, batch): the training samples of each step
  at::Tensor rates;                // float64 (epochs × steps): the learning rate of each step
  nlohmann::ordered_json dataset;  // name, fingerprint, files
  Split train, test;
};

// Throws Error if a file is missing, not the one that conditions.json names by its SHA-256, or not what the spec needs.
Conditions load_conditions(const std::filesystem::path& spec, const std::filesystem::path& data, const std::filesystem::path& conditions);
