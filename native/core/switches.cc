// Switches.
#include "core/switches.h"

#include <cstdlib>
#include <map>
#include <sstream>
#include <string>

#include "core/error.h"

namespace mammo {
namespace {

Switches read() {
  Switches s;
  const std::map<std::string, bool*> names{{"arena", &s.arena},
                                           {"sparse_box", &s.sparse_box},
                                           {"fold_norm", &s.fold_norm},
                                           {"level_wise", &s.level_wise},
                                           {"strips", &s.strips},
                                           {"fused_focal", &s.fused_focal},
                                           {"packed_conv", &s.packed_conv},
                                           {"winograd", &s.winograd},
                                           {"compact_pool", &s.compact_pool}};
  const char* off = std::getenv("MAMMO_OFF");
  std::istringstream list(off == nullptr ? "" : off);
  for (std::string name; std::getline(list, name, ',');) {
    const auto found = names.find(name);
    if (found == names.end()) {
      std::string known;
      for (const auto& [k, value] : names) known += (known.empty() ? "" : ", ") + k;
      throw Error("ARGUMENT", "MAMMO_OFF: expected some of " + known + ", got " + name);
    }
    *found->second = false;
  }
  return s;
}

Switches& state() {
  static Switches s = read();
  return s;
}

}  // namespace

const Switches& switches() { return state(); }

void set_switches(const Switches& switches) { state() = switches; }

}  // namespace mammo
