#pragma once

#include <stdexcept>

// Something a user can mend. Its text names the thing, the value found and the next step, in one line.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
