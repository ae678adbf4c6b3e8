// manifest.json: what a version was made of, and the SHA-256 of every file of it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "conditions.h"

// Writes `folder`/manifest.json over every file found below `folder`.
void write_manifest(const std::filesystem::path& folder, const Conditions& conditions, const nlohmann::ordered_json& metrics);
