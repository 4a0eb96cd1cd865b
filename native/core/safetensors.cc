// Reading and writing of .safetensors files.
#include "core/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"

namespace mammo {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit

struct TypeName {
  const char* name;
  at::ScalarType type;
};
constexpr TypeName kTypes[] = {
    {"F32", at::kFloat}, {"F64", at::kDouble},    {"I64", at::kLong}, {"U8", at::kByte},
    {"F16", at::kHalf},  {"BF16", at::kBFloat16}, {"I32", at::kInt},  {"BOOL", at::kBool},
};

std::optional<at::ScalarType> type_of(const std::string& name) {
  for (const auto& t : kTypes) {
    if (name == t.name) return t.type;
  }
  return std::nullopt;
}

const char* name_of(at::ScalarType type) {
  for (const auto& t : kTypes) {
    if (type == t.type) return t.name;
  }
  throw Error("INTERNAL", "write_safetensors: a tensor of a type without a name in the format");
}

class File {
 public:
  File(const std::string& path, int flags)
      : descriptor_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }
  bool close() { return ::close(std::exchange(descriptor_, -1)) == 0; }

 private:
  int descriptor_;
};

[[noreturn]] void fail_read(const std::string& path, const std::string& reason) {
  throw Error("CHECKPOINT", path + ": " + reason);
}

void read_exactly(const File& file, void* target, uint64_t size, const std::string& path) {
  char* out = static_cast<char*>(target);
  while (size > 0) {
    const ssize_t got = ::read(file.get(), out, std::min<uint64_t>(size, 1u << 30));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_read(path, std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) fail_read(path, "ends too early, it was truncated");
    out += got;
    size -= static_cast<uint64_t>(got);
  }
}

// What the header says about one tensor, checked against its own shape.
struct Entry {
  std::string name;
  std::optional<at::ScalarType> type;  // none: a type this program does not know
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

Entry parse_entry(const std::string& path, const std::string& name, const Json& item) {
  try {
    Entry e{name, type_of(item.at("dtype").get<std::string>()),
            item.at("shape").get<std::vector<int64_t>>(),
            item.at("data_offsets").at(0).get<uint64_t>(),
            item.at("data_offsets").at(1).get<uint64_t>()};
    uint64_t bytes = e.type ? at::elementSize(*e.type) : 0;
    for (int64_t side : e.shape) {
      if (side < 0 || (side > 0 && bytes > UINT64_MAX / static_cast<uint64_t>(side)))
        fail_read(path, "tensor " + name + " has an impossible shape");
      bytes *= static_cast<uint64_t>(side);
    }
    if (e.end < e.begin || (e.type && e.end - e.begin != bytes))
      fail_read(path, "tensor " + name + " does not have the size of its shape");
    return e;
  } catch (const Json::exception&) {
    fail_read(path, "the header entry of tensor " + name + " is malformed");
  }
}

class Writer {
 public:
  Writer(std::string path, std::string temporary)
      : path_(std::move(path)),
        temporary_(std::move(temporary)),
        file_(temporary_, O_WRONLY | O_CREAT | O_TRUNC) {
    if (file_.get() < 0) fail();
  }
  ~Writer() {
    if (!done_) ::unlink(temporary_.c_str());
  }
  void write(const void* data, uint64_t size) {
    const char* in = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t put = ::write(file_.get(), in, std::min<uint64_t>(size, 1u << 30));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) fail();
      in += put;
      size -= static_cast<uint64_t>(put);
    }
  }
  void commit() {
    if (::fsync(file_.get()) != 0 || !file_.close()) fail();
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail();
    done_ = true;
    const auto folder = std::filesystem::path(path_).parent_path();
    File handle(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
    if (handle.get() >= 0)
      ::fsync(handle.get());  // some file systems cannot; the rename itself has happened
  }

 private:
  [[noreturn]] void fail() {
    const int cause = errno;
    const bool full = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;
    throw Error(full ? "DISK_FULL" : "CHECKPOINT",
                path_ + ": cannot be written: " + std::strerror(cause));
  }

  std::string path_, temporary_;
  File file_;
  bool done_ = false;
};

}  // namespace

SafetensorsFile read_safetensors(const std::string& path) {
  File file(path, O_RDONLY);
  if (file.get() < 0) fail_read(path, std::string("cannot be opened: ") + std::strerror(errno));
  struct stat info{};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) fail_read(path, "is not a file");
  const auto size = static_cast<uint64_t>(info.st_size);
  uint64_t header_size = 0;
  if (size < 8)
    fail_read(path, "is no safetensors file: it has " + std::to_string(size) + " bytes");
  read_exactly(file, &header_size, 8, path);  // little-endian, as every machine this runs on
  if (header_size < 2 || header_size > kMaxHeader)
    fail_read(path, "is no safetensors file: the header length is impossible");
  if (header_size > size - 8) {
    fail_read(path, "is truncated inside its header, or is no safetensors file: " +
                        std::to_string(size) + " bytes, header of " + std::to_string(header_size));
  }
  std::string text(header_size, '\0');
  read_exactly(file, text.data(), header_size, path);
  const Json header = Json::parse(text, nullptr, false);
  if (!header.is_object()) fail_read(path, "is no safetensors file: the header is not JSON");

  SafetensorsFile result;
  std::vector<Entry> entries;
  for (const auto& [name, item] : header.items()) {
    if (name == "__metadata__") {
      if (!item.is_object()) fail_read(path, "the header's metadata is malformed");
      for (const auto& [key, value] : item.items()) {
        if (!value.is_string()) fail_read(path, "the header's metadata is malformed");
        result.metadata[key] = value.get<std::string>();
      }
    } else {
      entries.push_back(parse_entry(path, name, item));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  uint64_t end = 0;
  for (const Entry& e : entries) {
    if (e.begin != end) fail_read(path, "tensor " + e.name + " does not follow the one before it");
    end = e.end;
  }
  if (end != size - 8 - header_size) {
    fail_read(path,
              (end > size - 8 - header_size ? "is truncated: expected " : "is damaged: expected ") +
                  std::to_string(8 + header_size + end) + " bytes, got " + std::to_string(size));
  }
  for (const Entry& e : entries) {
    at::Tensor tensor = e.type ? at::empty(e.shape, *e.type)
                               : at::empty({static_cast<int64_t>(e.end - e.begin)}, at::kByte);
    read_exactly(file, tensor.data_ptr(), e.end - e.begin, path);
    if (e.type) result.tensors[e.name] = tensor;
  }
  return result;
}

void write_safetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  Json header = Json::object();
  header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const uint64_t bytes = tensor.nbytes();
    header[name] = {{"dtype", name_of(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception&) {
    throw Error("ARGUMENT", "checkpoint metadata: expected UTF-8 text");
  }
  text.append((8 - text.size() % 8) % 8, ' ');  // aligns the data
  const uint64_t header_size = text.size();

  const std::filesystem::path target(path);
  std::string name(".");
  name.append(target.filename().string())
      .append(".")
      .append(std::to_string(::getpid()))
      .append(".tmp");
  const std::string temporary = (target.parent_path() / name).string();
  Writer writer(path, temporary);
  writer.write(&header_size, 8);
  writer.write(text.data(), text.size());
  for (const auto& [key, tensor] : tensors) {
    const at::Tensor host = tensor.detach().cpu().contiguous();
    writer.write(host.data_ptr(), host.nbytes());
  }
  writer.commit();
}

}  // namespace mammo
