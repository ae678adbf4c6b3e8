// A training run: reads spec, data and conditions, and writes a version's files.
#pragma once

#include <chrono>
#include <filesystem>

#include "trainer.h"

struct Paths {
  std::filesystem::path spec, data, conditions, out;
};

// Trains and writes the files of train_server/README.md into the directory `out`. `start` is the program's start time.
// Throws Error for errors that a user can fix.
void train(MakeTrainer make_trainer, const Paths& paths, std::chrono::steady_clock::time_point start);
