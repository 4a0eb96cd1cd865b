// The file: round trip, every kind of damage, another program's or another configuration's file,
// and a full disk.
#include "core/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "check.h"
#include "configs.h"
#include "core/model/retinanet.h"
#include "core/safetensors.h"

using namespace mammo;
namespace fs = std::filesystem;

namespace {

// A folder of its own, gone at the end.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("mammo-checkpoint-" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string file(const std::string& name) const { return (path / name).string(); }
};

// A network with moments, as after one update.
struct Fixture {
  SessionConfig config;
  at::Generator generator = at::detail::createCPUGenerator(3);
  Retinanet net;
  std::map<std::string, Moments> moments;
  NormaliserState normaliser{12.345678901234567};

  explicit Fixture(const SessionConfig& c = test::tiny_config())
      : config(c), net(make_retinanet(c.detector.model, 9, generator, at::kCPU)) {
    for (const Parameter& p : net.parameters) {
      if (p.trainable)
        moments[p.name] = {at::full_like(p.value, 0.5), at::full_like(p.value, 0.25), 17};
    }
  }
  TrainingState state() {
    return {config.detector, config.optimizer, net.parameters,
            moments,         normaliser,       generator.get_state()};
  }
};

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

void round_trip() {
  const Folder folder;
  const std::string path = folder.file("a.safetensors");
  Fixture saved;
  save_checkpoint(path, saved.state(), R"({"step": 5})");
  SessionConfig other = test::tiny_config();
  other.seed = 1;
  other.detector.model.frozen_stages = 2;  // may differ
  Fixture loaded(other);
  loaded.generator.set_current_seed(77);
  const RestoredState restored = read_full_checkpoint(path, loaded.state());
  EXPECT_EQUAL(restored.metadata, R"({"step": 5})");
  EXPECT_EQUAL(restored.frozen_stages, 0);
  EXPECT_EQUAL(restored.normaliser.mean, 12.345678901234567);
  EXPECT(at::equal(restored.random, saved.generator.get_state()));
  for (const Parameter& p : saved.net.parameters)
    EXPECT(at::equal(restored.values.at(p.name), p.value));
  EXPECT_EQUAL(restored.moments.size(), saved.moments.size());
  EXPECT_EQUAL(restored.moments.at("fpn.output.3.weight").step, 17);
  EXPECT(at::equal(restored.moments.at("fpn.output.3.weight").second,
                   saved.moments.at("fpn.output.3.weight").second));
  EXPECT_EQUAL(std::distance(fs::directory_iterator(folder.path), {}), 1);  // no temporary left
}

void damage() {
  const Folder folder;
  const std::string path = folder.file("a.safetensors"), bad = folder.file("bad.safetensors");
  Fixture f;
  save_checkpoint(path, f.state(), "{}");
  const std::string bytes = read(path);
  const auto refuse = [&](const std::string& content, const std::string& part) {
    write(bad, content);
    EXPECT_THROWS("CHECKPOINT", part, read_full_checkpoint(bad, f.state()));
  };
  EXPECT_THROWS("CHECKPOINT", "cannot be opened",
                read_full_checkpoint(folder.file("absent"), f.state()));
  EXPECT_THROWS("CHECKPOINT", "is not a file",
                read_full_checkpoint(folder.path.string(), f.state()));
  refuse("", "0 bytes");
  refuse("PK\3\4 certainly a zip archive", "header length is impossible");
  refuse(bytes.substr(0, 100), "truncated");
  refuse(bytes.substr(0, bytes.size() - 1), "truncated");
  refuse(bytes + "x", "damaged");
  std::string broken = bytes;
  broken[8] = '[';
  refuse(broken, "header is not JSON");
  broken = bytes;
  const size_t version = broken.find("\"version\":\"1\"");
  EXPECT(version != std::string::npos);
  broken[version + 11] = '9';
  refuse(broken, "format version 9");
  write_safetensors(bad, {}, {{"x", at::zeros({2})}});
  EXPECT_THROWS("CHECKPOINT", "no checkpoint of this program",
                read_full_checkpoint(bad, f.state()));
}

void other_configuration() {
  const Folder folder;
  const std::string path = folder.file("a.safetensors");
  Fixture f;
  save_checkpoint(path, f.state(), "{}");
  SessionConfig c = test::tiny_config();
  c.detector.loss.gamma = 5;
  Fixture gamma(c);
  EXPECT_THROWS("CHECKPOINT", "loss.gamma (file 2.0, session 5.0)",
                read_full_checkpoint(path, gamma.state()));
  c = test::tiny_config();
  c.optimizer.kind = OptimizerKind::kSgd;
  Fixture sgd(c);
  EXPECT_THROWS("CHECKPOINT", "optimizer.kind", read_full_checkpoint(path, sgd.state()));
}

void weights_only() {
  const Folder folder;
  const std::string path = folder.file("a.safetensors");
  Fixture f;
  save_checkpoint(path, f.state(), R"({"a":1})");
  SessionConfig c = test::tiny_config();
  c.detector.model.classes = 5;
  c.detector.model.levels = {4, 5, 6};
  Fixture other(c);
  const RestoredWeights restored = read_weights(path, other.net.parameters);
  EXPECT_EQUAL(restored.metadata, R"({"a":1})");
  EXPECT(restored.report.skipped.at("head.cls.logits.weight")
             .starts_with("shape [18, 16, 3, 3] in the file, [45,"));
  EXPECT_EQUAL(restored.report.skipped.at("fpn.extra.6.weight"), "not in the file");
  EXPECT_EQUAL(restored.report.skipped.at("fpn.output.3.weight"),
               "this network has no parameter of that name");
  EXPECT(!restored.report.skipped.contains("normaliser.mean"));
  EXPECT(restored.values.contains("backbone.layer4.1.conv2.weight"));
  const std::string foreign = folder.file("foreign.safetensors");
  write_safetensors(
      foreign, {},
      {{"fpn.output.4.bias", at::ones({16})}, {"fpn.lateral.4.bias", at::ones({16}, at::kDouble)}});
  const RestoredWeights part = read_weights(foreign, other.net.parameters);
  EXPECT_EQUAL(part.report.loaded.size(), 1u);
  EXPECT_EQUAL(part.report.skipped.at("fpn.lateral.4.bias"), "not float32 in the file");
  write_safetensors(foreign, {}, {{"something", at::ones({16})}});
  EXPECT_THROWS("CHECKPOINT", "no parameter of this network",
                read_weights(foreign, other.net.parameters));
}

// A file size limit stands in for a full disk; the earlier file must survive and nothing else may
// be left.
void full_disk() {
  const Folder folder;
  const std::string path = folder.file("a.safetensors");
  Fixture f;
  save_checkpoint(path, f.state(), "first");
  const std::string before = read(path);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{static_cast<rlim_t>(before.size() / 2), limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROWS("DISK_FULL", "cannot be written", save_checkpoint(path, f.state(), "second"));
  setrlimit(RLIMIT_FSIZE, &limit);
  EXPECT(read(path) == before);
  EXPECT_EQUAL(std::distance(fs::directory_iterator(folder.path), {}), 1);
  EXPECT_THROWS("CHECKPOINT", "cannot be written",
                save_checkpoint(folder.file("no/such/folder/a"), f.state(), "{}"));
}

}  // namespace

int main() {
  check::run("round trip", round_trip);
  check::run("damage", damage);
  check::run("other configuration", other_configuration);
  check::run("weights only", weights_only);
  check::run("full disk", full_disk);
  return check::failures;
}
